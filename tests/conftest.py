"""Shape annotations of the models are checked while tests run; no test reaches the network."""

from jaxtyping import install_import_hook

install_import_hook("NatureLM.models", "beartype.beartype")
