/* What a thread of MuJoCo's batch does for one simulation in a control step: take the physics steps
   that are due, compute contact forces where the task reads them, and copy out what it reads.
   Nothing here depends on MuJoCo's headers: mjModel and mjData are only passed on, and where a
   field of mjData lies is found when the program runs. */

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
    .m_doc = "ADDRESS is that of the function that a batch runs on each simulation.",
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
