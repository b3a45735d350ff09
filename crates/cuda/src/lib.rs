//! What this machine has of NVIDIA.
