"""Which variables a zygote and its containers must have in common: those that C libraries read by themselves."""

import pytest

from homeport.contract.variables import SILENTLY_READ


@pytest.mark.parametrize(
    "name",
    ["ARROW_DEFAULT_MEMORY_POOL", "BLIS_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "CUDNN_LOGINFO_DBG", "FLEXIBLAS",
     "GOTO_NUM_THREADS", "GRPC_VERBOSITY", "HIP_VISIBLE_DEVICES", "KMP_AFFINITY", "LANG", "LANGUAGE", "LC_ALL",
     "LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_ARENA_MAX", "MKL_NUM_THREADS", "NCCL_DEBUG", "NPY_DISABLE_CPU_FEATURES",
     "NUMEXPR_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENSSL_CONF", "POLARS_MAX_THREADS",
     "PYTHONHASHSEED", "PYTORCH_CUDA_ALLOC_CONF", "RAYON_NUM_THREADS", "ROCR_VISIBLE_DEVICES", "RUST_LOG",
     "SSL_CERT_FILE", "TBB_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL", "TORCH_HOME", "TQDM_DISABLE", "TZ",
     "VECLIB_MAXIMUM_THREADS", "XLA_FLAGS"],
)  # fmt: skip
def test_a_variable_that_a_library_reads_by_itself_is_known(name):
    assert name.startswith(SILENTLY_READ)


@pytest.mark.parametrize("name", ["PATH", "HOME", "MODEL", "MY_OMP_NUM_THREADS", "DATABASE_URL"])
def test_any_other_variable_may_differ(name):
    assert not name.startswith(SILENTLY_READ)
