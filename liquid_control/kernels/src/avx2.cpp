#define LIQUID_MODULE _avx2
#define LIQUID_INSTRUCTION_SET "avx2"
#include "module.h"
