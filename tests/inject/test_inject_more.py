"""What trapline injects beyond strace: short transfers, changed arguments, conditions, chance, rule files."""

from __future__ import annotations

import json

import pytest

PYTHON = "/usr/bin/python3"


@pytest.fixture
def inject(cli):
    """Run a command under injections; its standard output, and ours."""

    def run(engine, expressions, *command, status=0, **options):
        words = [word for expression in expressions for word in ("-e", expression)]
        done = cli("inject", "--engine", engine, *words, "--", *command, **options)
        assert done.returncode == status, done
        return done.stdout, done.stderr

    return run


def test_short_makes_reads_and_writes_transfer_less(with_results, inject, tmp_path):
    (tmp_path / "in").write_text("0123456789")
    command = ["dd", f"if={tmp_path}/in", "bs=10", "status=none"]
    assert inject(with_results, ["read:fd=0:short=3"], *command, "count=2")[0] == "012345"
    assert inject(with_results, ["write:fd=1:short=4"], *command)[0] == "0123456789"


def test_arguments_are_replaced(with_results, inject):
    script = "import os; print(os.write(1, b'abcdef'))"
    rules = ["write:fd=1:arg3=2:when=1"]
    assert inject(with_results, rules, PYTHON, "-uc", script)[0] == "ab2\n"


def test_a_path_limits_an_injection(every, inject, tmp_path):
    names = [f"{tmp_path}/a", f"{tmp_path}/b"]
    for name in names:
        with open(name, "w") as file:
            file.write(name[-1])
    out, err = inject(every, [f"openat:path={tmp_path}/a*:error=EACCES"], "cat", *names, status=1)
    assert out == "b"
    assert "Permission denied" in err


def test_a_descriptor_limits_an_injection(every, inject):
    script = "import os; os.write(1, b'out'); os.write(2, b'err')"
    out, err = inject(every, ["write:fd=2:retval=4"], PYTHON, "-c", script)
    assert out == "out"
    assert err.startswith("trapline: write:fd=2:retval=4: 1 injected: write 1 of thread ")


def test_a_name_limits_an_injection(every, inject):
    _, err = inject(
        every, ["read:comm=head:error=EIO"], "sh", "-c", "head -c4 /dev/zero; cat /dev/null; echo done"
    )
    assert "Input/output error" in err


def test_one_call_waits_for_another(every, inject, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    names = [f"{tmp_path}/first", f"{tmp_path}/second"]
    rule = f"openat:path={tmp_path}/*:after=openat({tmp_path}/first):error=EIO"
    out, _ = inject(every, [rule], "cat", names[1], *names, names[1], status=1)
    # The watching rule sees a call first, so what it waits for counts for the same call too.
    assert out == "second"


def test_several_rules_act_on_one_call_in_order(every, inject):
    script = "import os; print(os.getppid(), os.getppid(), os.getppid())"
    # The first with a result ends it: the second rule does not meet the first call.
    rules = ["getppid:retval=11:when=1", "getppid:retval=22:when=2", "getppid:retval=33"]
    assert inject(every, rules, PYTHON, "-c", script)[0] == "11 33 22\n"


def test_chance_repeats_with_its_seed(every, inject):
    script = "import os; print(*[i for i in range(300) if os.getppid() == 7])"
    first, again, other = [
        inject(every, [f"getppid:retval=7:p=0.1:seed={seed}"], PYTHON, "-c", script)[0] for seed in (7, 7, 8)
    ]
    assert first == again != other
    assert 5 < len(first.split()) < 80


def test_rules_come_from_a_file_and_their_place_goes_to_json(every, cli, tmp_path):
    rules, report = tmp_path / "rules", tmp_path / "report"
    rules.write_text("# one a line\ngetppid:retval=5:when=2   # the second\n\ngetuid:error=EIO\n")
    script = "import os; print(os.getppid() != 5, os.getppid())"
    done = cli(
        "inject", "-q", "-r", str(rules), "--json", str(report), "--engine", every, "--", PYTHON, "-c", script
    )
    assert (done.stdout, done.stderr) == ("True 5\n", "")
    found = json.loads(report.read_text())
    assert found["engine"] == every
    assert found["rules"][0] == {"rule": "getppid:retval=5:when=2", "injected": 1}
    hit = next(hit for hit in found["injected"] if hit["call"] == "getppid")
    assert hit["number"] == 2
    assert hit["pid"] == hit["tid"] > 1


def test_a_wrong_line_of_a_file_is_named(cli, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text("getppid:retval=5\n\nnosuchcall:error=EIO\n")
    done = cli("inject", "-r", str(rules), "--", "true")
    assert done.returncode == 125
    assert done.stderr.startswith(f"trapline: {rules}, line 3: 'nosuchcall:error=EIO': unknown system call")


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("getppid:seed=3:error=EIO", "seed= is nothing without p="),
        ("getppid:p=0:error=EIO", "no probability"),
        ("getppid:fd=1:error=EIO", "fd= is for calls that take a descriptor"),
        ("getppid:short=1", "short= is for calls that hand over one buffer"),
        ("getppid:path=/x:error=EIO", "takes no path"),
        ("read:short=1:error=EIO", "a call that is not made"),
        ("read:arg7=1", "unknown key 'arg7'"),
        ("read:after=nosuch:error=EIO", "unknown system call"),
        ("read:after=read(/x):error=EIO", "takes no path"),
        ("read:after=openat(/x:error=EIO", "no closing parenthesis"),
        ("fault=read:short=1", "fault= takes error and when"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli, expression, why):
    done = cli("inject", "-e", expression, "--", "true")
    assert done.returncode == 125
    assert why in done.stderr


def test_an_engine_that_cannot_do_it_says_who_can(cli):
    done = cli("inject", "--engine", "notify", "-e", "read:short=1", "--", "true")
    assert done.returncode == 125
    assert "Use --engine rewrite, sud, trap or ptrace" in done.stderr


def test_what_was_injected_is_said_at_the_end(every, inject):
    _, err = inject(
        every, ["getppid:retval=1:when=2+"], PYTHON, "-c", "import os; [os.getppid() for _ in range(6)]"
    )
    assert err.startswith("trapline: getppid:retval=1:when=2+: 5 injected: getppid 2 of thread ")
    assert err.endswith(", ...\n")
