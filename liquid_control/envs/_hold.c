/* The function that a thread of MuJoCo's batch runs on one simulation in a control step. It takes
   the physics steps, computes contact forces if the task reads them, and copies the fields that the
   task reads. It does not use MuJoCo's headers: mjModel and mjData are opaque, and the offsets of
   mjData's fields are found at run time. */

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

typedef void (*Stage)(const void* model, void* data); /* such as mj_step */

typedef struct {
  size_t offset; /* of the field's pointer in mjData */
  size_t size;   /* of the field, in bytes */
  char* rows;    /* where to copy it, a row for each simulation */
} Field;

typedef struct {
  Stage step;
  Stage forces;        /* or NULL */
  const int* substeps; /* for each simulation */
  const Field* fields;
  size_t count; /* of fields */
} Plan;

/* An mjfBatchFunc. */
static void hold(const void* model, void* data, int simulation, void* argument) {
  const Plan* plan = argument;
  for (int left = plan->substeps[simulation]; left > 0; --left) plan->step(model, data);
  if (plan->forces) plan->forces(model, data);
  for (size_t i = 0; i < plan->count; ++i) {
    const Field field = plan->fields[i];
    const char* values;
    memcpy(&values, (const char*)data + field.offset, sizeof values);
    memcpy(field.rows + (size_t)simulation * field.size, values, field.size);
  }
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_hold",
    .m_doc = "ADDRESS is the address of the function that a batch runs on each simulation.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__hold(void) {
  PyObject* module = PyModule_Create(&definition);
  if (!module) return NULL;
  PyObject* address = PyLong_FromVoidPtr((void*)hold);
  if (PyModule_AddObjectRef(module, "ADDRESS", address) < 0) {
    Py_DECREF(module);
    module = NULL;
  }
  Py_XDECREF(address);
  return module;
}
