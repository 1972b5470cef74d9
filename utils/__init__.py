"""What every script shares: flags, data sets, records, figures; no mathematics that an assignment asks for."""

import os

# What notebooks export and other projects are told to set must not reach the libraries that are imported after this.
os.environ["MPLBACKEND"] = "Agg"  # no display is used
os.environ["TF_USE_LEGACY_KERAS"] = "0"  # Keras 3 is what the norms are compared with
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.devnull  # nobody's keras.json
for _name in (
    # What would make "float32" in a record something else: TF32, bfloat16 or float16 products, fast mathematics.
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "TF_ENABLE_AUTO_MIXED_PRECISION",
    "TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
    "TORCHINDUCTOR_USE_FAST_MATH",
    "TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG",
    "TORCHINDUCTOR_CPP_ENABLE_FLOATING_POINT_CONTRACT_FLAG",
    "TORCHINDUCTOR_EMULATE_PRECISION_CASTS",
    # What would make "compiled" in a record something else.
    "TORCHDYNAMO_DISABLE",
    "TORCH_COMPILE_DISABLE",
    # What would bind the threads of two workers to one core, once torch is imported.
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
):
    os.environ.pop(_name, None)
