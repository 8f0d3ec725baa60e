"""The arithmetic peak of the GPUs that Colab and clusters lend: without it, no utilisation is told.

From NVIDIA's data sheets. fp16 and bf16 are those of the tensor cores on dense matrices (for the A100 and later the
sheets also give twice as much, with sparsity), fp32 that of the CUDA cores, which torch uses unless it is allowed TF32.
"""

_TERA = 1e12
# How the name that torch gives the card begins, after its maker's: fp16 and bf16, fp32. The first that fits counts.
_PEAKS = (
    ("T4", 65, 8.1),
    ("V100 SXM2", 125, 15.7),
    ("V100 PCIE", 112, 14),
    ("L4", 121, 30.3),
    ("A100", 312, 19.5),
    ("H100 PCIe", 756, 51),
    ("H100 80GB HBM3", 989, 67),
    ("H200 NVL", 835, 60),
    ("H200", 989, 67),
)

CARDS = {
    "T4": "T4", "V100": "V100 SXM2", "L4": "L4", "A100": "A100", "H100": "H100 80GB HBM3", "H200": "H200",
}  # fmt: skip
"""What people call a card, and the form of it that is meant, as torch calls it."""


def peak_flops(device: str, precision: str) -> float | None:
    """Floating-point operations a second of the GPU that torch calls `device`; None if it is not listed, or a part of
    one (MIG)."""
    words = device.removeprefix("NVIDIA ").removeprefix("Tesla ").replace("-", " ")
    for name, half, single in _PEAKS:
        if f"{words} ".startswith(f"{name} ") and " MIG" not in words:
            return _TERA * (single if precision == "fp32" else half)
    return None
