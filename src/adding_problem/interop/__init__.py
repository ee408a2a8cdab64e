"""The model and the data among other tools: exports, imports, data files.

exporting       the trained model for Keras, TensorFlow, ONNX and torch.export, loaded back and compared
importing       a model trained elsewhere becomes a run folder
datafile        sequences for other frameworks, `.npz` or `.parquet`
keras_file, tensor_bundle, plain_pickle    readers of foreign files that run nothing of what they read
"""

from adding_problem.interop.datafile import write_data
from adding_problem.interop.exporting import Exported, export, export_missing, require
from adding_problem.interop.importing import Imported, import_model

__all__ = [
    "Exported",
    "Imported",
    "export",
    "export_missing",
    "import_model",
    "require",
    "write_data",
]
