"""The one part of TTT-Linear that has to go from mini-batch to mini-batch: the weights that are learned on the way.

With the keys K of mini-batch n and a column of ones, Z = K W_n is what the weights say of them, and G = dl/dZ is the
gradient of the inner loss l = |norm(Z) gain + shift - (V - K)|^2 / 2, row by row. Then

    W_{n+1} = W_n - S^T G,        S = each key times its learning rate (the bias is the last row of W).

All other products of the layer are made of all mini-batches at once, outside (`ttt`). Here a step is five kernels
forward and eleven backward. The backward is in closed form: torch would keep and walk some forty.

    python -m benchmarks.ttt

N mini-batches, G groups (batch x heads), M tokens of a mini-batch, E width of a head, I = E + 1 with the bias.
"""

import torch

EPSILON = 1e-6
"""Of the inner LayerNorm."""


def scan(
    keys_NGMI: torch.Tensor,
    steps_NGMI: torch.Tensor,
    offset_NGME: torch.Tensor,
    gain_G1E: torch.Tensor,
    start_GIE: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The weights [N, G, I, E] before each mini-batch, those [G, I, E] behind the last, and the gradients [N, G, M, E].

    With x = norm(K W): G = (r - mean(r) - x mean(r x)) / std, r = `gain` x + `offset` (arXiv 2407.04620, section 2.5;
    `gain` is the squared gain of the inner LayerNorm). Differentiable once, in all arguments.
    """
    return _Scan.apply(keys_NGMI, steps_NGMI, offset_NGME, gain_G1E, start_GIE)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keys_NGMI, steps_NGMI, offset_NGME, gain_G1E, start_GIE):
        num_batches = len(keys_NGMI)
        weights_NGIE = start_GIE.new_empty(num_batches + 1, *start_GIE.shape)
        gradients_NGME = torch.empty_like(offset_NGME)
        weights_NGIE[0] = start_GIE
        for n in range(num_batches):
            z_GME = torch.bmm(keys_NGMI[n], weights_NGIE[n])
            x_GME, mean_GM1, rstd_GM1 = _norm(z_GME)
            r_GME = torch.addcmul(offset_NGME[n], x_GME, gain_G1E)
            gradients_NGME[n] = _norm_backward(r_GME, z_GME, mean_GM1, rstd_GM1)
            torch.baddbmm(
                weights_NGIE[n], steps_NGMI[n].mT, gradients_NGME[n], alpha=-1, out=weights_NGIE[n + 1]
            )  # fmt: skip
        ctx.save_for_backward(keys_NGMI, steps_NGMI, offset_NGME, gain_G1E, weights_NGIE, gradients_NGME)
        return weights_NGIE[:-1].clone(), weights_NGIE[-1].clone(), gradients_NGME

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_weights_NGIE, d_last_GIE, d_gradients_NGME):
        """`d_` is the derivative of the loss in what follows. With P(y) = (y - mean(y) - x mean(x y)) / std, which is
        its own adjoint, G = P(r), and for u = dG:

            dr = P(u),    dZ = P(gain dr) - (mean(r x) dr + mean(u x) G + mean(u G) x) / std,

        the three last because x and std stand in P too."""
        keys_NGMI, steps_NGMI, offset_NGME, gain_G1E, weights_NGIE, gradients_NGME = ctx.saved_tensors
        num_batches = len(keys_NGMI)
        z_NGME = keys_NGMI @ weights_NGIE[:-1]
        x_NGME, mean_NGM1, rstd_NGM1 = _norm(z_NGME)
        r_NGME = torch.addcmul(offset_NGME, x_NGME, gain_G1E)
        slope_NGM1 = -rstd_NGM1 * (r_NGME * x_NGME).mean(-1, keepdim=True)
        pair_N2GME = torch.stack([x_NGME, gradients_NGME], dim=1)
        swapped_N2GME = torch.stack([gradients_NGME, x_NGME], dim=1) * (-rstd_NGM1 / x_NGME.shape[-1])[:, None]
        adjoint_NGIE = torch.empty_like(weights_NGIE)
        adjoint_NGIE[num_batches] = d_last_GIE
        dr_NGME, dz_NGME = torch.empty_like(z_NGME), torch.empty_like(z_NGME)
        for n in reversed(range(num_batches)):
            of_n = z_NGME[n], mean_NGM1[n], rstd_NGM1[n]
            u_GME = torch.baddbmm(d_gradients_NGME[n], steps_NGMI[n], adjoint_NGIE[n + 1], alpha=-1)
            dr_NGME[n] = dr_GME = _norm_backward(u_GME, *of_n)
            sums_2GM1 = (pair_N2GME[n] * u_GME).sum(-1, keepdim=True)
            dz_GME = _norm_backward(dr_GME * gain_G1E, *of_n)
            dz_GME.addcmul_(slope_NGM1[n], dr_GME).add_((swapped_N2GME[n] * sums_2GM1).sum(0))
            dz_NGME[n] = dz_GME
            through_GIE = d_weights_NGIE[n] + adjoint_NGIE[n + 1]
            torch.baddbmm(through_GIE, keys_NGMI[n].mT, dz_GME, out=adjoint_NGIE[n])
        return (
            dz_NGME @ weights_NGIE[:-1].mT,
            -(gradients_NGME @ adjoint_NGIE[1:].mT),
            dr_NGME,
            (dr_NGME * x_NGME).sum(0).sum(1, keepdim=True),
            adjoint_NGIE[0],
        )


def _norm(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalised over the last axis, with its mean and the inverse of its standard deviation: torch's own kernel."""
    return torch.native_layer_norm(z, z.shape[-1:], None, None, EPSILON)


def _norm_backward(d: torch.Tensor, z: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor) -> torch.Tensor:
    """P(d): what LayerNorm's backward makes of `d`, in one kernel."""
    return torch.ops.aten.native_layer_norm_backward(
        d, z, z.shape[-1:], mean, rstd, None, None, [True, False, False]
    )[0]  # fmt: skip
