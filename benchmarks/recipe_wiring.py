"""The wiring of the recipes."""

NCP = {
    "kind": "ncp",
    "inter": 24,
    "command": 34,
    "motor": 32,
    "sensory_fanout": 12,
    "inter_fanout": 17,
    "recurrent_command_synapses": 578,
    "motor_fanin": 17,
}
