"""What a person runs: smsctl, the whole system on one machine, the simulator."""
