"""How fast a token cache is built, and in how much memory, from made-up papers of full length.

    python benchmarks/tokenise.py --megabytes 200 --tokenizer tokenizer.json

The arXiv set is 1,650 MB of text in papers of some 56,000 characters. Memory is what the process allocates itself
(resident less file-backed pages): the texts are mapped from disk, and the system takes those pages back at need.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.config import ARXIV_COMPONENTS, DataConfig
from helpers.data.fetch_arxiv import ensure_cache
from helpers.data.flat_tokens import flat_tokens
from helpers.storage import Storage

PAPER_CHARS = 56_000
ARXIV_MEGABYTES = 1_650
SHARES = {"train": 0.85, "validation": 0.075, "test": 0.075}


def made_up_papers(num_papers: int, rng: np.random.Generator) -> Iterator[str]:
    """Texts whose words follow Zipf's law over 50,000 made-up words; lengths are log-normal, as papers' are."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    weight = 1 / np.arange(1, 27)
    lengths = np.clip(rng.poisson(6, 50_000), 1, None)
    words = ["".join(rng.choice(letters, n, p=weight / weight.sum())) for n in lengths]
    frequency = 1 / np.arange(1, len(words) + 1)
    edges = np.cumsum(frequency / frequency.sum())
    for chars in PAPER_CHARS * rng.lognormal(-0.32, 0.8, num_papers):
        drawn = np.searchsorted(edges, rng.random(max(10, int(chars / 7))) * edges[-1])
        yield " ".join([words[i] for i in drawn])


def write_papers(folder: Path, megabytes: int) -> float:
    """Parquet files of all splits; returns the megabytes written."""
    schema = pa.schema({"text": pa.string(), "label": pa.string()})
    rng, written = np.random.default_rng(0), 0
    for split, share in SHARES.items():
        num_papers = max(11, round(megabytes * 1e6 * share / PAPER_CHARS))
        with pq.ParquetWriter(folder / f"{split}.parquet", schema) as writer:
            for i, text in enumerate(made_up_papers(num_papers, rng)):
                written += len(text)
                writer.write_table(pa.table({"text": [text], "label": [ARXIV_COMPONENTS[i % 11]]}, schema=schema))
    return written / 1e6


class PeakMemory:
    """The largest own memory of this process while the block runs, sampled every 20 ms."""

    def __enter__(self) -> "PeakMemory":
        self.gigabytes, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(0.02):
            memory = process.memory_info()
            self.gigabytes = max(self.gigabytes, (memory.rss - memory.shared) / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--tokenizer", default="train:4096", help="a tokenizer.json, a Hub name, or train:N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        papers = Path(place) / "papers"
        papers.mkdir()
        megabytes = write_papers(papers, options.megabytes)
        storage = Storage.at(Path(place) / "storage")
        with PeakMemory() as memory:
            start = time.perf_counter()
            cache = ensure_cache(DataConfig(source=str(papers), tokenizer=options.tokenizer), storage)
            built_s = time.perf_counter() - start
            flat_tokens(cache, "train", storage)
            flat_s = time.perf_counter() - start - built_s
        tokens = sum(split["tokens"] for split in cache.manifest["splits"].values())
        stored = sum(file["bytes"] for file in cache.files().values())
    print(f"{megabytes:.0f} MB of text, {tokens:,} tokens, {stored / tokens:.2f} bytes a token in Parquet")
    print(f"cache {built_s:.1f} s = {megabytes / built_s:.2f} MB/s; train unpacked in {flat_s:.2f} s")
    print(f"peak memory {memory.gigabytes:.2f} GB")
    print(f"at this rate {ARXIV_MEGABYTES:,} MB take {ARXIV_MEGABYTES / (megabytes / built_s) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
