/* Runs a policy over a recording on a Cortex-M4F, and prints the bits of its actions.
 *
 * Output is by semihosting. SysTick counts down at 25 MHz; under `qemu -icount shift=0` one
 * instruction takes one nanosecond, so a tick is 40 instructions.
 */
#include <stdint.h>
#include <string.h>

#include "policy.h"
#include "recording.h"

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010u)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014u)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xE000E018u)
#define COPROCESSOR_ACCESS (*(volatile uint32_t *)0xE000ED88u)

extern uint32_t _data_from, _data_begin, _data_end, _bss_begin, _bss_end, _stack;

static int host(int operation, const void *argument) {
    register int code __asm__("r0") = operation;
    register const void *value __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(code) : "r"(value) : "memory");
    return code;
}

static void print_hex(uint32_t bits, char end) {
    char text[10];
    for (int i = 0; i < 8; ++i) {
        text[i] = "0123456789abcdef"[(bits >> (28 - 4 * i)) & 15u];
    }
    text[8] = end;
    text[9] = 0;
    host(0x04, text); /* SYS_WRITE0 */
}

void reset_handler(void) {
    COPROCESSOR_ACCESS |= 0xFu << 20; /* the floating-point unit */
    __asm__ volatile("dsb\n\tisb");
    memcpy(&_data_begin, &_data_from, (size_t)((char *)&_data_end - (char *)&_data_begin));
    memset(&_bss_begin, 0, (size_t)((char *)&_bss_end - (char *)&_bss_begin));
    SYSTICK_RELOAD = 0xFFFFFFu;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 5;

    static policy_state state;
    float action[POLICY_ACTION_SIZE], observation[POLICY_OBSERVATION_SIZE], elapsed;
    uint32_t most = 0;
    policy_reset(&state);
    for (int step = 0; step < STEPS; ++step) {
        memcpy(observation, observations[step], sizeof observation);
        memcpy(&elapsed, &elapsed_times[step], sizeof elapsed);
        const uint32_t before = SYSTICK_VALUE;
        const int code = policy_step(&state, observation, elapsed, action);
        const uint32_t ticks = (before - SYSTICK_VALUE) & 0xFFFFFFu;
        most = ticks > most ? ticks : most;
        for (int i = 0; i < POLICY_ACTION_SIZE; ++i) {
            uint32_t bits;
            memcpy(&bits, &action[i], sizeof bits);
            print_hex(code ? 0 : bits, ' ');
        }
    }
    print_hex(40u * most, '\n');
    host(0x18, (void *)0x20026); /* SYS_EXIT, as it should be */
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    &_stack, (const void *)reset_handler};
