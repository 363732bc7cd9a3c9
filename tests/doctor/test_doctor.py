from __future__ import annotations

import argparse
import errno
import io
import json
import os
import resource
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from confinement import (
    ERRNO,
    KILL_PROCESS,
    NEW_LISTENER,
    UNUSED_NUMBER,
    USER_NOTIF,
    become_nobody,
    enter_user_namespace,
    in_child,
    install_filter,
    libc,
)

from trapline import doctor, features
from trapline.cli import doctor as command
from trapline.doctor import engines, text
from trapline.doctor.catalog import ENTRIES, GROUPS
from trapline.errors import UsageError

REFUSED = ("ptrace", "pidfd_getfd", "process_vm_readv", "process_vm_writev")


def report():
    return doctor.as_json(doctor.examine())


def states(data):
    return {feature["name"]: feature["state"] for feature in data["features"]}


def verdicts(data):
    return {engine["name"]: engine["verdict"] for engine in data["engines"]}


def remedy(data, name):
    return next(feature["remedy"] for feature in data["features"] if feature["name"] == name)


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["doctor", *arguments])
    with redirect_stdout(io.StringIO()) as output:
        status = args.run(args)
    return status, output.getvalue()


@pytest.fixture(scope="module")
def here():
    return report()


def test_every_probe_is_reported_once(here):
    assert sorted(states(here)) == sorted(features.names())
    assert len(here["features"]) == len(features.names())


def test_every_entry_has_a_purpose_a_group_and_every_feature_a_remedy():
    for entry in ENTRIES:
        assert entry.group in GROUPS
        assert entry.title
        assert entry.purpose
        assert entry.fact or entry.absent, entry.name


def test_engines_ask_only_for_features_that_exist():
    known = {entry.name for entry in ENTRIES}
    for engine in engines.ENGINES:
        assert {name for group in engine.needs for name in group} | set(engine.wants) <= known


def test_a_missing_feature_has_a_reason_and_a_remedy_and_a_working_one_has_no_remedy(here):
    for feature in here["features"]:
        if feature["state"] == "missing":
            assert feature["remedy"]
            assert feature["errno"] or feature["detail"]
        if feature["state"] in ("works", "yes", "no"):
            assert feature["remedy"] is None


def test_json_keeps_to_its_schema(here):
    assert list(here) == [
        "schema",
        "trapline",
        "machine",
        "ok",
        "default_engine",
        "engines",
        "features",
        "seconds",
    ]
    assert here["schema"] == 1
    assert set(here["machine"]) == {"architecture", "kernel", "uid", "cpus"}
    assert list(verdicts(here)) == ["notify", "rewrite", "sud", "trap", "ptrace", "guest"]
    for engine in here["engines"]:
        assert set(engine) == {"name", "verdict", "missing", "lacking"}
        assert engine["verdict"] in ("works", "limited", "unavailable", "unknown")
        assert bool(engine["missing"]) == (engine["verdict"] in ("unavailable", "unknown"))
    for feature in here["features"]:
        assert set(feature) == {
            "name",
            "group",
            "kind",
            "title",
            "purpose",
            "state",
            "errno",
            "detail",
            "remedy",
        }
        allowed = ("yes", "no", "untested") if feature["kind"] == "fact" else ("works", "missing", "untested")
        assert feature["state"] in allowed
        assert feature["errno"] is None or feature["errno"] in errno.errorcode.values()


def test_the_command_prints_json_and_exits_by_the_default_engine():
    status, output = run_command("--json")
    data = json.loads(output)
    assert status == (0 if verdicts(data)["notify"] in ("works", "limited") else 1)
    assert data["ok"] == (status == 0)


def test_the_table_is_plain_ascii_and_names_every_engine_and_feature():
    status, output = run_command()
    assert output.isascii()
    assert max(map(len, output.splitlines())) <= 100
    for engine in engines.ENGINES:
        assert f"\n  {engine.name} " in output
    for entry in ENTRIES:
        if entry.name in features.names():
            assert entry.title in output
    assert output.rstrip().splitlines()[-1].startswith("The default engine (notify) works") == (status == 0)


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "1e9"])
def test_a_senseless_timeout_is_a_usage_error(timeout):
    with pytest.raises(UsageError, match="--timeout"):
        run_command(f"--timeout={timeout}")


def test_a_filter_that_refuses_calls_is_named_as_the_reason(here):
    data = in_child(lambda: install_filter(dict.fromkeys(REFUSED, ERRNO | errno.EPERM)), report)
    found = states(data)
    assert found["seccomp_confined"] == "yes"
    for name in ("ptrace_seize", "ptrace_traceme", "pidfd_getfd", "process_vm"):
        assert found[name] == "missing"
        assert "in the seccomp filter that this process is under" in remedy(data, name)
    assert "allow pidfd_open, pidfd_getfd" in remedy(data, "pidfd_getfd")
    assert "--cap-add SYS_PTRACE" in remedy(data, "pidfd_getfd")
    # /proc/PID/mem still reads memory, so the default engine is slower, not gone.
    assert verdicts(data)["notify"] == ("limited" if states(here)["proc_mem"] == "works" else "unavailable")
    assert verdicts(data)["ptrace"] == "unavailable"
    assert data["ok"] == (verdicts(data)["notify"] == "limited")


def test_a_filter_that_kills_is_told_from_a_kernel_that_lacks():
    data = in_child(lambda: install_filter({"pidfd_getfd": KILL_PROCESS}), report)
    feature = next(f for f in data["features"] if f["name"] == "pidfd_getfd")
    assert feature["state"] == "missing"
    assert "SIGSYS" in feature["detail"]
    assert "allow pidfd_open, pidfd_getfd in the seccomp filter" in feature["remedy"]


def test_a_filter_that_pretends_an_old_kernel_is_suspected():
    data = in_child(lambda: install_filter({"clone3": ERRNO | errno.ENOSYS}), report)
    feature = next(f for f in data["features"] if f["name"] == "clone3_clear_sighand")
    assert feature["errno"] == "ENOSYS"
    assert feature["remedy"].startswith("allow clone3 in the seccomp filter")


def test_a_listener_that_is_already_present_is_found_and_other_engines_proposed():
    def listen():
        install_filter({UNUSED_NUMBER: USER_NOTIF}, NEW_LISTENER)

    def both():
        examination = doctor.examine()
        return doctor.as_json(examination), text.render(examination)

    data, table = in_child(listen, both)
    found = states(data)
    assert found["notify_listener_free"] == "missing"
    assert found["notify_listener"] == "untested"
    assert "--engine rewrite or ptrace" in remedy(data, "notify_listener_free")
    assert verdicts(data)["notify"] == "unavailable"
    assert next(e["missing"] for e in data["engines"] if e["name"] == "notify") == ["notify_listener_free"]
    assert verdicts(data)["ptrace"] in ("works", "limited")
    assert data["ok"] is False
    instead = next(
        name for name in ("rewrite", "sud", "ptrace") if verdicts(data)[name] in ("works", "limited")
    )
    assert f"does not work here: use --engine {instead}" in table
    # Flags are known to the kernel, listener or not.
    assert found["notify_wait_killable"] == "untested"


def test_the_command_exits_with_1_when_the_default_engine_cannot_work():
    def listen():
        install_filter({UNUSED_NUMBER: USER_NOTIF}, NEW_LISTENER)

    assert in_child(listen, lambda: run_command()[0]) == 1


def nobody_exists():
    # In a user namespace of one user there is nobody to become.
    return os.geteuid() != 0 or any(
        int(first) <= 65534 < int(first) + int(count)
        for first, _, count in map(str.split, Path("/proc/self/uid_map").read_text().splitlines())
    )


def test_an_ordinary_user_gets_the_same_verdicts_as_root(here):
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and int(scope.read_text()) >= 2:
        pytest.skip("Yama leaves ptrace to root here")
    if not nobody_exists():
        pytest.skip("this user namespace maps root alone")
    data = in_child(become_nobody, report)
    assert data["machine"]["uid"] != 0
    assert verdicts(data) == verdicts(here)


def test_root_of_a_user_namespace_gets_the_same_verdicts(here):
    if not features.user_namespace() or not nobody_exists():
        pytest.skip("this user may not make user namespaces here, or maps root alone")

    def enter():
        become_nobody()
        enter_user_namespace()

    data = in_child(enter, report)
    assert data["machine"]["uid"] == 0
    assert verdicts(data) == verdicts(here)


def test_a_limit_on_the_address_space_is_told_with_its_size():
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    data = in_child(limit, report)
    arena = next(feature for feature in data["features"] if feature["name"] == "arena")
    assert arena["state"] == "missing"
    assert arena["detail"] == "at most 4 GiB in one piece; RLIMIT_AS is 8192 MiB"
    assert "ulimit -v unlimited" in arena["remedy"]


def test_without_room_for_processes_features_are_untested_not_missing():
    if not nobody_exists():
        pytest.skip("this user namespace maps root alone, whom the limit does not bind")

    def limit():
        become_nobody()
        # Root's processes do not count; those of this user are already more than none.
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    data = in_child(limit, report)
    assert set(states(data).values()) == {"untested"}
    assert set(verdicts(data).values()) == {"unknown"}
    assert data["ok"] is False


def test_a_closed_standard_input_changes_nothing(here):
    assert states(in_child(lambda: os.close(0), report)) == states(here)


def test_pid_1_of_a_namespace_leaves_no_zombies_to_itself():
    if os.geteuid() != 0 and not features.user_namespace():
        pytest.skip("this user may not make namespaces here")

    def as_first():
        if os.geteuid() != 0:
            enter_user_namespace()
        # The first child after this is pid 1, and orphans in there become its children.
        if libc.unshare(0x20000000):
            return None

        def first():
            result = [os.getpid()]
            for name in features.names():
                features.probe(name, fresh=True)
            features._native.probe("self_test_hang", 30)
            try:
                result.append(os.waitpid(-1, 0x40000000 | os.WNOHANG)[0])
            except ChildProcessError:
                result.append(-1)
            return result

        return in_child(lambda: None, first)

    outcome = in_child(lambda: None, as_first)
    if outcome is None:
        pytest.skip("root may not make a pid namespace here")
    assert outcome == [1, -1]


def test_the_page_about_the_doctor_lists_every_name():
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    assert [entry.name for entry in ENTRIES if f"| `{entry.name}` | {entry.title} |" not in page] == []
