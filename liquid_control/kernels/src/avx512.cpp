#define LIQUID_MODULE _avx512
#define LIQUID_INSTRUCTION_SET "avx512"
#include "module.h"
