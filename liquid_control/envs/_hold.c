/* The function that a thread of MuJoCo's batch runs on one simulation in a control step. It takes
   the physics steps, computes contact forces if the task reads them, and copies the fields that the
   task reads. If there are actuators, it sets the controls before each physics step; if sensors are
   late, it copies their fields after each. It does not use MuJoCo's headers: mjModel and mjData are
   opaque, and the offsets of mjData's fields are found at run time. */

#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

typedef void (*Stage)(const void* model, void* data); /* such as mj_step */

typedef struct {
  size_t offset; /* of the field's pointer in mjData */
  size_t size;   /* of the field, in bytes */
  char* rows;    /* where to copy it, a row for each simulation */
} Field;

/* The arrays of `Actuation` in actuators.py, a row for each simulation. */
typedef struct {
  size_t offset;   /* of the controls' pointer in mjData */
  size_t controls; /* of a simulation */
  size_t slots;    /* of the ring of commands */
  size_t limits;
  const double* commands; /* (slots, controls) */
  const int* issued;      /* (slots), physics steps since the reset */
  const int* latest;
  int* current;
  const int* delay;
  const double* changes; /* (limits), the same for all simulations */
  double* levels;        /* (limits, controls) */
} Commands;

/* The next pushes of `Timeline` in events.py, a row for each simulation. */
typedef struct {
  size_t offset; /* of xfrc_applied's pointer in mjData */
  size_t count;  /* of pushes in a row */
  const int* bodies; /* (count), the same for all simulations */
  const int* at;     /* (count), physics steps since the reset */
  const double* forces; /* (count, 3) */
  double* kept;         /* (count, 3), the forces that were there before */
} Pushes;

typedef struct {
  Stage step;
  Stage forces;        /* or NULL */
  const int* substeps; /* for each simulation */
  const int* now;      /* physics steps since its reset, for each simulation */
  const Field* fields;
  size_t count;             /* of fields */
  const Field* past;        /* rings of `length` rows for each simulation */
  size_t past_count;        /* of fields */
  size_t length;            /* of the rings; 0: there are none */
  const Commands* commands; /* or NULL */
  const Pushes* pushes;     /* or NULL */
} Plan;

static char* pointer_at(const void* data, size_t offset) {
  char* pointer;
  memcpy(&pointer, (const char*)data + offset, sizeof pointer);
  return pointer;
}

static void copy(const Field* fields, size_t count, const void* data, size_t row) {
  for (size_t i = 0; i < count; ++i) {
    const Field field = fields[i];
    memcpy(field.rows + row * field.size, pointer_at(data, field.offset), field.size);
  }
}

/* Actuation.advance in C: set the controls of the physics step that follows `now` others. */
static void actuate(const Commands* all, size_t simulation, int now, void* data) {
  const size_t slots = all->slots, controls = all->controls;
  const int* issued = all->issued + simulation * slots;
  const int due = now - all->delay[simulation], latest = all->latest[simulation];
  int current = all->current[simulation];
  while (current < latest && issued[(size_t)(current + 1) % slots] <= due) ++current;
  all->current[simulation] = current;
  const double* target =
      all->commands + (simulation * slots + (size_t)current % slots) * controls;
  for (size_t limit = 0; limit < all->limits; ++limit) {
    const double most = all->changes[limit];
    double* level = all->levels + (simulation * all->limits + limit) * controls;
    for (size_t i = 0; i < controls; ++i) {
      const double change = target[i] - level[i];
      level[i] += change > most ? most : change < -most ? -most : change;
    }
    target = level;
  }
  memcpy(pointer_at(data, all->offset), target, controls * sizeof *target);
}

/* Add the forces of the pushes of a physics step; return how many there are. */
static size_t push(const Pushes* all, size_t simulation, int now, void* data) {
  size_t pushed = 0;
  for (size_t i = 0; i < all->count; ++i) {
    const size_t place = simulation * all->count + i;
    if (all->at[place] != now) continue;
    double* force = (double*)pointer_at(data, all->offset) + 6 * (size_t)all->bodies[i];
    memcpy(all->kept + 3 * place, force, 3 * sizeof *force);
    for (int axis = 0; axis < 3; ++axis) force[axis] += all->forces[3 * place + (size_t)axis];
    ++pushed;
  }
  return pushed;
}

/* Undo `push`, last force first, as several may act on one body. */
static void release(const Pushes* all, size_t simulation, int now, void* data) {
  for (size_t i = all->count; i-- > 0;) {
    const size_t place = simulation * all->count + i;
    if (all->at[place] != now) continue;
    double* force = (double*)pointer_at(data, all->offset) + 6 * (size_t)all->bodies[i];
    memcpy(force, all->kept + 3 * place, 3 * sizeof *force);
  }
}

/* An mjfBatchFunc. */
static void hold(const void* model, void* data, int simulation, void* argument) {
  const Plan* plan = argument;
  const size_t row = (size_t)simulation;
  const int substeps = plan->substeps[row], now = plan->now[row];
  for (int taken = 0; taken < substeps; ++taken) {
    if (plan->commands) actuate(plan->commands, row, now + taken, data);
    const size_t pushed = plan->pushes ? push(plan->pushes, row, now + taken, data) : 0;
    plan->step(model, data);
    if (pushed) release(plan->pushes, row, now + taken, data);
    if (plan->length) {
      if (plan->forces) plan->forces(model, data);
      const size_t place = (size_t)(now + taken + 1) % plan->length;
      copy(plan->past, plan->past_count, data, row * plan->length + place);
    }
  }
  if (plan->forces && !plan->length) plan->forces(model, data);
  copy(plan->fields, plan->count, data, row);
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
