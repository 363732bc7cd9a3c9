// _native.Agent: what becomes of which call.
#include "agent_object.h"

#include <string.h>

enum { i386 = 0x40000003 }; // AUDIT_ARCH_I386

// classify(class, numbers): how calls are treated; None means all.
PyObject *tl_agent_object_classify(PyObject *object, PyObject *args)
{
    uint8_t *classes = tl_as_agent(object)->agent.session->classes;
    PyObject *numbers;
    int class;

    if (!PyArg_ParseTuple(args, "iO:classify", &class, &numbers))
        return NULL;
    if (numbers == Py_None) {
        memset(classes, class, sizeof tl_as_agent(object)->agent.session->classes);
        Py_RETURN_NONE;
    }
    PyObject *tuple = PySequence_Tuple(numbers);
    for (Py_ssize_t i = 0; tuple && i < PyTuple_Size(tuple); i++)
        classes[PyLong_AsUnsignedLongMask(PyTuple_GetItem(tuple, i)) & 0xffff] = (uint8_t)class;
    if (!tuple)
        return NULL;
    Py_DECREF(tuple);
    Py_RETURN_NONE;
}

PyObject *tl_agent_object_classify_own(PyObject *object, PyObject *unused)
{
    (void)unused;
    tl_agent_classify_own(&tl_as_agent(object)->agent);
    Py_RETURN_NONE;
}

// set_constant(nr, result)
PyObject *tl_agent_object_set_constant(PyObject *object, PyObject *args)
{
    struct tl_session *session = tl_as_agent(object)->agent.session;
    long long value;
    unsigned nr;

    if (!PyArg_ParseTuple(args, "IL:set_constant", &nr, &value))
        return NULL;
    if (nr >= tl_calls)
        return PyErr_Format(PyExc_ValueError, "set_constant: there is no call %u", nr);
    session->constants[nr] = value;
    session->classes[nr] = TL_CONSTANT;
    session->constant[nr] = true;
    Py_RETURN_NONE;
}

// Where the list of rules on a call is kept; NULL: there is no room. NR -1: of all calls.
static uint16_t *find_list(struct tl_rule_table *table, unsigned arch, int nr)
{
    unsigned index = arch == i386;

    if (nr >= 0 && nr < tl_calls)
        return &table->calls[index][nr];
    if (nr == -1)
        return &table->others[index];
    if (table->number_count == tl_rule_numbers_max)
        return NULL;
    struct tl_rule_number *number = &table->numbers[table->number_count++];
    *number = (struct tl_rule_number){(uint16_t)index, 0, (uint32_t)nr};
    return &number->list;
}

// set_rules(audit_arch, nr, ((rule, subcall or -1, bits of descriptors, size or -1), ...)): what agents apply
// to a call, before the program begins; nr -1 first: all. False: there is no room.
PyObject *tl_agent_object_set_rules(PyObject *object, PyObject *args)
{
    struct tl_rule_table *table = &tl_as_agent(object)->agent.session->rules;
    PyObject *uses;
    unsigned arch;
    int nr;

    if (!PyArg_ParseTuple(args, "IiO!:set_rules", &arch, &nr, &PyTuple_Type, &uses))
        return NULL;
    Py_ssize_t count = PyTuple_Size(uses);
    uint32_t start = table->use_count + 1;
    uint16_t *list = find_list(table, arch, nr);
    if (!list || start + (size_t)count + 1 > tl_rule_uses_max)
        Py_RETURN_FALSE;
    for (Py_ssize_t i = 0; i < count; i++) {
        int rule, subcall, fds, size;
        if (!PyArg_ParseTuple(PyTuple_GetItem(uses, i), "iiii:set_rules", &rule, &subcall, &fds, &size))
            return NULL;
        table->uses[start + i] = (struct tl_rule_use){
            (uint16_t)(rule + 1), (int16_t)subcall, (uint8_t)fds, (int8_t)size, 0,
        };
    }
    *list = count ? (uint16_t)start : 0;
    if (count)
        table->use_count = start + (uint32_t)count; // and the end of the list, which is zero
    if (nr == -1)
        for (int i = 0; i < tl_calls; i++)
            table->calls[arch == i386][i] = *list;
    Py_RETURN_TRUE;
}
