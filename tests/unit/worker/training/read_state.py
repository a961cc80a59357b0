"""Reads a training state with nothing but Python's own library (docs/formats.md), and says what is in it:
step, number of trainable and moving values, sum of dense.bias, validation loss of the last epoch."""
import array
import json
import struct
import sys

with open(sys.argv[1], "rb") as f:
    (length,) = struct.unpack("<Q", f.read(8))
    header = json.loads(f.read(length))
    data = f.read()
metadata = header.pop("__metadata__")
assert metadata["format"] == "dermis training state", metadata


def values(name):
    entry = header[name]
    begin, end = entry["data_offsets"]
    return array.array({"F32": "f", "F64": "d"}[entry["dtype"]], data[begin:end])


count = sum(len(values(name)) for name in header if name.startswith("model."))
print(metadata["step"], count, repr(sum(values("model.dense.bias"))), repr(values("epochs")[-6 + 3]))
