/* Balances a pendulum on a slider with a policy that liquid_control exported.
 *
 * Put policy.c and policy.h beside this file. The policy observes two numbers, the slider's place in
 * metres and the pendulum's angle in radians, as `InvertedPendulum-v5` with `observe: positions`; its
 * action is the force. Change the four functions below for another robot.
 */
#include "policy.h"

const int SLIDER = A0, ANGLE = A1; /* potentiometers */
const int PWM = 9, DIRECTION = 8;  /* of the motor's driver */
const float METRES = 2.0f;         /* from one end of the first potentiometer to the other */
const float RADIANS = 1.5707963f;  /* likewise, of the second */
const float STRONGEST = 3.0f;      /* the action at which the driver gives all it has */
const int MOST_REFUSED = 5;        /* intervals in a row, after which the motor rests */

static policy_state state;
static uint32_t tried_at, observed_at; /* microseconds; the latter was not refused */
static bool is_first = true, has_tried = false;
static int refused = 0;

/* A potentiometer from -1 to 1; NaN at its ends, where a broken wire reads as well. */
static float read_potentiometer(int pin) {
    const int value = analogRead(pin);
    return value <= 0 || value >= 1023 ? NAN : (float)value / 511.5f - 1.0f;
}

static void observe(float observation[]) {
    observation[0] = 0.5f * METRES * read_potentiometer(SLIDER);
    observation[1] = 0.5f * RADIANS * read_potentiometer(ANGLE);
}

static void act(const float action[]) {
    const float share = constrain(action[0] / STRONGEST, -1.0f, 1.0f);
    digitalWrite(DIRECTION, share < 0.0f ? HIGH : LOW);
    analogWrite(PWM, (int)(255.0f * (share < 0.0f ? -share : share) + 0.5f));
}

static void rest(void) {
    const float nothing[POLICY_ACTION_SIZE] = {0};
    act(nothing);
}

void setup() {
    pinMode(PWM, OUTPUT);
    pinMode(DIRECTION, OUTPUT);
    policy_reset(&state);
    rest();
}

void loop() {
    float observation[POLICY_OBSERVATION_SIZE];
    float action[POLICY_ACTION_SIZE];
    const uint32_t now = micros(); /* wraps after 71 minutes; the difference does not */
    const float measured = 1e-6f * (float)(now - observed_at);

    if (has_tried && 1e-6f * (float)(now - tried_at) < POLICY_NOMINAL_INTERVAL) {
        return; /* the loop of the board comes back at once */
    }
    tried_at = now;
    has_tried = true;
    observe(observation);
    /* The policy knows the intervals of its training only. */
    const float elapsed = constrain(measured, POLICY_TRAINED_SHORTEST, POLICY_TRAINED_LONGEST);
    const int code = policy_step(&state, observation, is_first ? POLICY_NOMINAL_INTERVAL : elapsed,
                                 action);
    if (code == POLICY_OK) {
        observed_at = now;
        is_first = false;
        refused = 0;
        act(action);
    } else if (++refused > MOST_REFUSED) { /* until then, the last action goes on */
        rest();
        policy_reset(&state);
        is_first = true;
    }
}
