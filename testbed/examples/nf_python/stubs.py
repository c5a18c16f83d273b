"""The gRPC stubs, made from the .proto file of the repository when this is imported."""

import importlib
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[3] / "control/api/proto/weir/nf/v1"


def _make():
    with tempfile.TemporaryDirectory(prefix="weir-nf-") as folder:
        arguments = ["protoc", f"-I{PROTO}", f"--python_out={folder}",
                     f"--grpc_python_out={folder}", str(PROTO / "nf.proto")]
        if protoc.main(arguments) != 0:
            sys.exit("the stubs can not be made")
        sys.path.insert(0, folder)
        try:
            return [importlib.import_module(name) for name in ("nf_pb2", "nf_pb2_grpc")]
        finally:
            sys.path.remove(folder)


nf_pb2, nf_pb2_grpc = _make()
