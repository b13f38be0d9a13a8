/* As much of Arduino's core as the sketches of the examples use, for a simulated board. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <math.h>
#include <stdint.h>

#define OUTPUT 1
#define HIGH 1
#define LOW 0
#define A0 14
#define A1 15
#define constrain(x, low, high) ((x) < (low) ? (low) : ((x) > (high) ? (high) : (x)))

void pinMode(int pin, int mode);
void digitalWrite(int pin, int value);
void analogWrite(int pin, int value);
int analogRead(int pin);
unsigned long micros(void);
void setup(void);
void loop(void);

#endif
