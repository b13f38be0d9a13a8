/* A simulated board: reads "microseconds slider angle" lines, and prints what the motor gets. */
#include "Arduino.h"

#include <stdio.h>

static unsigned long now;
static int readings[2], pins[32];

void pinMode(int, int) {}
void digitalWrite(int pin, int value) { pins[pin] = value; }
void analogWrite(int pin, int value) { pins[pin] = value; }
int analogRead(int pin) { return readings[pin - A0]; }
unsigned long micros(void) { return now & 0xffffffffUL; } /* an Arduino's has 32 bits */

int main(void) {
    setup();
    while (scanf("%lu %d %d", &now, &readings[0], &readings[1]) == 3) {
        loop();
        printf("%d\n", pins[8] ? -pins[9] : pins[9]);
    }
    return 0;
}
