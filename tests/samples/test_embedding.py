"""A pretrained embedding from a file, and from a stand-in of the Hub."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.studies.samples.embedding import pretrained_embedding


def test_rows_are_those_of_the_file_by_either_name(tmp_path: Path) -> None:
    rows_VD = torch.randn(5, 3, dtype=torch.float16)
    for name in ("wte.weight", "transformer.wte.weight"):
        path = tmp_path / f"{name}.safetensors"
        save_file({name: rows_VD, "wpe.weight": torch.zeros(2)}, path)
        assert torch.equal(pretrained_embedding(str(path), (5, 3)), rows_VD.float())
    asked = []
    found = pretrained_embedding("openai-community/gpt2", (5, 3), lambda *words: asked.append(words) or str(path))
    assert torch.equal(found, rows_VD.float()) and asked == [("openai-community/gpt2", "model.safetensors")]


def test_what_does_not_fit_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"wte.weight": torch.zeros(5, 3)}, path)
    with pytest.raises(ValueError, match=r"has 5 rows of width 3.*tokenizer has 7 tokens and model\.d_model is 3"):
        pretrained_embedding(str(path), (7, 3))
    save_file({"head": torch.zeros(5, 3)}, path)
    with pytest.raises(ValueError, match=r"has none of wte\.weight"):
        pretrained_embedding(str(path), (5, 3))
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        pretrained_embedding(str(path), (5, 3))

    def fails(*words):
        raise ConnectionError("no route")

    with pytest.raises(RuntimeError, match=r"no route.*leave it empty"):
        pretrained_embedding("openai-community/gpt2", (5, 3), fails)
