"""TTT-Linear and its evaluation against the plain way to do each, side by side in one process.

    python -m benchmarks.ttt --threads 2 --repeats 7

layer: forward and backward over T = 512 tokens against the same layer fed token by token. To be at least 20 times as
fast. step: a training step of a whole model at T = 2,048 against full attention of the same size. At most 2 times as
long. memory: what is kept for the backward at 1,024, 2,048 and 4,096 tokens. Twice the tokens, twice the bytes.
window: stride-1 evaluation against one forward a target. To be at least 8 times as fast.

Times are taken in turn, and the ratio is that of the fastest of each: what else runs on the machine only adds.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from helpers.model_config import TttConfig
from helpers.models.language_model import build_model
from helpers.models.rotary import rotate
from helpers.models.stream_model import StreamModel
from helpers.models.ttt import TTTLinear
from helpers.models.window_model import WindowModel
from helpers.studies.length.measure import token_losses, windowed

D, HEADS, VOCABULARY = 64, 4, 512


def layer_times(repeats: int) -> dict[str, float]:
    layer, x_BTD = TTTLinear(D, HEADS), torch.randn(1, 512, D, requires_grad=True)

    def at_once() -> None:
        layer(x_BTD)[0].square().sum().backward()

    def token_by_token() -> None:
        state, outputs = None, []
        for x_B1D in x_BTD.split(1, dim=1):
            y_B1D, state = primal_step(layer, x_B1D, state)
            outputs.append(y_B1D)
        torch.cat(outputs, dim=1).square().sum().backward()

    check_equal(layer, x_BTD)
    return fastest({"dual": at_once, "token by token": token_by_token}, repeats)


def primal_step(layer: TTTLinear, x_B1D: torch.Tensor, state: tuple | None) -> tuple[torch.Tensor, tuple]:
    """One token by the primal form: the weights of its mini-batch, and the sum of the steps so far in it."""
    weights_BHIE, steps_BHIE, i = state or (layer.start(len(x_B1D)), 0.0, 0)
    q, k, v = (
        part(x_B1D).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (layer.queries, layer.keys, layer.values)
    )
    q, k = (rotate(u_BH1E, torch.tensor([i])) for u_BH1E in (q, k))
    one = torch.ones_like(k[..., :1])
    key_BH1I, query_BH1I = torch.cat([k, one], -1), torch.cat([q, one], -1)
    gain, shift = layer.gain_HE[:, None], layer.shift_HE[:, None]
    z = key_BH1I @ weights_BHIE
    rstd = (z.var(-1, unbiased=False, keepdim=True) + 1e-6).rsqrt()
    x = (z - z.mean(-1, keepdim=True)) * rstd
    r = gain * (gain * x + shift - (v - k))
    gradient = (r - r.mean(-1, keepdim=True) - x * (r * x).mean(-1, keepdim=True)) * rstd
    rate = (x_B1D @ layer.rate_weight_HD.T + layer.rate_bias_H).sigmoid().transpose(1, 2)[..., None] * layer.rate
    steps_BHIE = steps_BHIE + (rate * key_BH1I).mT @ gradient
    now_BHIE = weights_BHIE - (1 / (i + 1) + layer.scale_M[i]).clamp(min=0) * steps_BHIE
    answer = q + gain * torch.nn.functional.layer_norm(query_BH1I @ now_BHIE, gain.shape[-1:], eps=1e-6) + shift
    y_B1D = layer.out(layer.norm(answer.transpose(1, 2).flatten(2)))
    is_full = i + 1 == layer.mini_batch
    return y_B1D, ((now_BHIE, 0.0, 0) if is_full else (weights_BHIE, steps_BHIE, i + 1))


def check_equal(layer: TTTLinear, x_BTD: torch.Tensor) -> None:
    """What is compared in time gives the same."""
    state, outputs = None, []
    with torch.no_grad():
        for x_B1D in x_BTD.split(1, dim=1):
            y_B1D, state = primal_step(layer, x_B1D, state)
            outputs.append(y_B1D)
        torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x_BTD)[0], rtol=1e-3, atol=1e-4)


def step_times(repeats: int) -> dict[str, float]:
    ids_BT = torch.randint(0, VOCABULARY, (2, 2048))
    models = {mixer: WindowModel(model_of(mixer), 0) for mixer in ("ttt", "full")}
    optimizers = {mixer: torch.optim.AdamW(model.parameters(), fused=True) for mixer, model in models.items()}

    def step(mixer: str) -> None:
        (models[mixer](ids_BT) / ids_BT.numel()).backward()
        optimizers[mixer].step()
        optimizers[mixer].zero_grad()

    return fastest({mixer: lambda mixer=mixer: step(mixer) for mixer in models}, repeats)


def model_of(mixer: str) -> StreamModel:
    return build_model(TttConfig(size="ttt-100k", mixer=mixer), VOCABULARY, 0, seed=0)


def memory_bytes(length: int) -> int:
    """Bytes of the tensors that one forward of the model keeps for its backward, each storage once."""
    model, sizes = model_of("ttt"), {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = model.hidden(torch.zeros(1, length, dtype=torch.long))
    assert kept.requires_grad  # and so alive until here, with all that it keeps
    return sum(sizes.values())


def window_times(repeats: int, window: int = 32, num_targets: int = 640) -> dict[str, float]:
    model, tokens_BT = model_of("ttt").eval(), torch.randint(0, VOCABULARY, (1, num_targets + 1))

    @torch.no_grad()
    def one_forward_a_target() -> torch.Tensor:
        losses = []
        for t in range(num_targets):
            context_BT = tokens_BT[:, max(0, t + 1 - window) : t + 1]
            losses.append(token_losses(model, model.hidden(context_BT)[:, -1:], tokens_BT[:, t + 1 : t + 2]))
        return torch.cat(losses, dim=1)

    torch.testing.assert_close(one_forward_a_target(), windowed(model, tokens_BT, window), rtol=1e-3, atol=1e-4)
    ways = {"batched": lambda: windowed(model, tokens_BT, window), "one forward a target": one_forward_a_target}
    return fastest(ways, repeats)


def fastest(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest of `repeats` calls of each way, taken in turn after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: min(taken[1:]) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layer, step, window = layer_times(options.repeats), step_times(options.repeats), window_times(options.repeats)
    sizes = {length: memory_bytes(length) for length in (1024, 2048, 4096)}
    found = {
        "threads": options.threads,
        "layer_s": layer,
        "layer_times_as_fast": layer["token by token"] / layer["dual"],
        "step_s": step,
        "step_times_as_long": step["ttt"] / step["full"],
        "window_s": window,
        "window_times_as_fast": window["one forward a target"] / window["batched"],
        "memory_bytes": sizes,
        "memory_growth": [sizes[2048] / sizes[1024], sizes[4096] / sizes[2048]],
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
