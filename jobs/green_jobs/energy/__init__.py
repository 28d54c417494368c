"""What an attempt's hardware draws, as cumulative counters that never fall.

One component (GPU, CPU) is read by the best method that works where the attempt runs:

- GPU: NVML's energy counter (Measured), else reserved power (Estimated).
- CPU: a share of the packages' RAPL counter (Attributed), else CPU time times the table's power
  (Estimated), else reserved power (Estimated).

No reading is not zero: a method that fails leaves its counter where it stood, and the reserved
power goes on from its last reading under a counter of its own. Fans, power supplies, memory and
network are not covered.
"""
