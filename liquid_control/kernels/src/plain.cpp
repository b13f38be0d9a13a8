#define LIQUID_MODULE _plain
#define LIQUID_INSTRUCTION_SET "plain"
#include "module.h"
