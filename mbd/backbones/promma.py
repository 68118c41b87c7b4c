"""ProMMA (arXiv 2604.05558): what a missing channel would gain is judged before anything is made up in its place.

It knows neither optimiser nor cohort: a batch goes in, a fused embedding, a prediction and loss terms come out. Only
the paper's abstract is known to us; its four modules are here in its order, and every equation is ours:

    evaluator    u^m = log of E[(f(all) - f(all but m))^2], judged from what else the row has;
                 g^m = max(0, 1 - threshold / exp(u^m)), the gate of X_hat^m
    prompts      S_l, shared, one set a level; P_l^m = S_l A_m, private; kept apart by their squared cosines
    weights      p^m = softmax_n(Q x^m . S_ln / sqrt(D)), I^m = log N - entropy of p^m, w^m = softmax_m(I^m + log r^m);
                 r^m is 1 for a channel that is there, g^m for one that was made up
    connection   x^m <- x^m + attention(x)^m + p^m S_l + w^m p^m P_l^m, over levels l

Legend: B rows, D width, K outputs, M channels of the interface, N prompts a level, L levels, V sets of channels.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as f
from torch import Tensor, nn

from mbd.backbones.base import Backbone, Fidelity, Interface, Output, ParameterGroup
from mbd.backbones.stem import Encoders, GatedMlp, StemOptions, gaussian_nll, mean_over
from mbd.cohort.batch import Batch

_FLOOR = 1e-4
"""Added to every gain: the likelihood of a move of exactly nothing has no bound."""


@dataclass(frozen=True)
class PrommaOptions(StemOptions):
    """Sizes and loss weights.

    Attributes:
        levels: L, self-attention layers with prompts of their own.
        prompts: N, shared prompts of a level, and private ones of each channel.
        threshold: the gain, as a share of the label's variance, up to which imputing is refused.
        refusal: how often, in training, a row is read without anything imputed whatever its gates say: the teacher's
            question "and without it?" must be one that the network has practised.
        reconstruction: the weight of the generators' loss.
        disentanglement: the weight of the loss that keeps shared and private prompts apart.
    """

    levels: int = 2
    prompts: int = 4
    threshold: float = 0.05
    refusal: float = 0.5
    reconstruction: float = 0.5
    disentanglement: float = 0.1


class PromptedLevel(nn.Module):
    """Self-attention over a row's channels, to whose output the level's prompts are added; then a gated MLP."""

    def __init__(self, options: PrommaOptions) -> None:
        super().__init__()
        width = options.width
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ask = nn.Linear(width, width)  # Q
        self.refine_norm = nn.LayerNorm(width)
        self.refine = GatedMlp(width, width, hidden=2 * width, dropout=options.dropout)

    def forward(
        self, x_BMD: Tensor, log_share_BM: Tensor, shared_ND: Tensor, private_MND: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The channels after this level [B,M,D], and their weights w [B,M].

        Args:
            x_BMD: the channels.
            log_share_BM: log r; minus infinity for a channel that nobody may read.
            shared_ND: S_l.
            private_MND: P_l.
        """
        normed_BMD = self.norm(x_BMD)
        query_BMD, key_BMD, value_BMD = self.query_key_value(normed_BMD).chunk(3, dim=-1)
        mixed_BMD = f.scaled_dot_product_attention(query_BMD, key_BMD, value_BMD, attn_mask=log_share_BM[:, None, :])
        log_match_BMN = (self.ask(normed_BMD) @ shared_ND.T / math.sqrt(x_BMD.shape[-1])).log_softmax(dim=-1)
        match_BMN = log_match_BMN.exp()
        weight_BM = (information(log_match_BMN) + log_share_BM).softmax(dim=1)
        private_BMD = torch.einsum("bmn,mnd->bmd", match_BMN, private_MND)
        prompted_BMD = x_BMD + self.out(mixed_BMD) + match_BMN @ shared_ND + weight_BM[..., None] * private_BMD
        return prompted_BMD + self.refine(self.refine_norm(prompted_BMD)), weight_BM


def information(log_match_BMN: Tensor) -> Tensor:
    """I [B,M] of log p [B,M,N]: what seeing the channel tells about which prompt matches, in nats.

    The mean of I over rows is the mutual information of channel and prompt, if all prompts match equally often.
    """
    return math.log(log_match_BMN.shape[-1]) + (log_match_BMN.exp() * log_match_BMN).sum(dim=-1)


class Promma(Backbone):
    """Evaluator, gated generators, and prompts over levels, for one, two or three declared channels.

    A lone declared channel has nothing to be imputed from: then there is neither evaluator nor generator.
    """

    name = "promma"
    Options = PrommaOptions
    fidelity: ClassVar[Fidelity] = "inspired"
    generates = True
    deviations = (
        "only the abstract is known: the four modules are its, every equation is ours",
        "the teacher is not a pre-trained model but the network itself, at every step, without dropout or gradient",
        (
            "gain is label-free: the squared move from f(all but m) to f(all), the pseudo label; that is what m takes "
            "off the squared error, if predictions are conditional means"
        ),
        (
            "it is the gain of having m, not of imputing it, which may be less: what the other channels tell of m, a "
            "network trained on masked rows may know without imputing"
        ),
        "the evaluator is a gated MLP that takes moves for normal, with variance exp(u); it shapes only itself",
        "a gate is exactly zero up to the threshold",
        "private prompts are linear maps of shared ones, kept apart from them and from one another by squared cosines",
        "mutual information is a row's own part of it, as if all prompts matched equally often: rows do not mix",
        "tokens are channels, pooled by the stem's encoders, not frames",
    )

    options: PrommaOptions

    def __init__(self, interface: Interface, options: PrommaOptions) -> None:
        super().__init__(interface, options)
        width, names = options.width, [m.value for m in interface.channels]

        def mlp(inputs: int, outputs: int) -> GatedMlp:
            return GatedMlp(inputs, outputs, hidden=2 * width, dropout=options.dropout)

        several = len(names) > 1
        self.encoders = Encoders(interface, options)
        self.evaluator = mlp(len(names) * (width + 2), 1) if several else None
        self.generators = nn.ModuleDict({n: mlp(len(names) * width, width) for n in names if several})
        self.generated_norm = nn.LayerNorm(width) if several else None  # X_hat^m lives where X^m lives
        self.prompts = nn.Parameter(0.5 * torch.randn(options.levels, options.prompts, width))  # S
        self.disentangle = nn.ModuleDict({n: nn.Linear(width, width) for n in names})  # A_m
        self.levels = nn.ModuleList(PromptedLevel(options) for _ in range(options.levels))
        self.fused_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, interface.outputs)

    def forward(self, batch: Batch) -> Output:
        """Encode what is present, judge what is missing, generate what is worth it, fuse, predict."""
        present_BM = self.present(batch)
        encoded = self.encoders.encoded(self, batch)
        x_BMD = torch.stack(list(encoded.values()), dim=1)
        share_BM = present_BM.to(x_BMD.dtype)
        terms: dict[str, Tensor] = {}
        if self.evaluator is not None:
            clean_BMD = x_BMD
            if torch.is_grad_enabled():  # where nothing is learnt, nobody has to be taught
                clean_BMD, terms["gain"] = self._teach(batch, present_BM)
            log_gain_BM = self.evaluate(clean_BMD, present_BM)
            generated_BMD = self.generate(x_BMD)
            gate_BM = self.gate(log_gain_BM)
            if self.training:
                gate_BM = gate_BM * (torch.rand_like(gate_BM[:, :1]) >= self.options.refusal)
            share_BM = torch.where(present_BM, share_BM, gate_BM)
            x_BMD = torch.where(present_BM[..., None], x_BMD, generated_BMD)
            terms |= {"generated": generated_BMD, "log_gain": log_gain_BM}
        embedding_BD, weights_BM = self.fuse(x_BMD, share_BM)
        weights_BM = weights_BM * present_BM.any(dim=1, keepdim=True)
        prediction_BK = self.answer(self.head(embedding_BD), batch)
        return Output(prediction_BK, embedding_BD, encoded, weights=weights_BM, terms=terms)

    def evaluate(self, x_BMD: Tensor, present_BM: Tensor) -> Tensor:
        """The logarithm u [B,M] of each channel's gain, judged from the row's other channels alone."""
        assert self.evaluator is not None
        asked_MM = torch.eye(len(self.interface.channels), dtype=torch.bool, device=x_BMD.device)
        seen_BMM = present_BM[:, None, :] & ~asked_MM
        seen_BMX = torch.where(seen_BMM[..., None], x_BMD[:, None], 0.0).flatten(2)
        known = (seen_BMX, seen_BMM.to(x_BMD.dtype), asked_MM.to(x_BMD.dtype).expand_as(seen_BMM))
        log_gain_BM: Tensor = self.evaluator(torch.cat(known, dim=-1)).squeeze(-1)
        return log_gain_BM

    def gate(self, log_gain_BM: Tensor) -> Tensor:
        """From 0 (refused) to 1, g [B,M]; the task may not argue with the evaluator, so it carries no gradient."""
        return f.relu(1 - self.options.threshold * torch.exp(-log_gain_BM.detach()))

    def generate(self, x_BMD: Tensor) -> Tensor:
        """X_hat [B,M,D]: each channel from the others and its own private prompts; a missing other is zero."""
        assert self.generated_norm is not None
        private_MD = self.private(self.prompts[0]).mean(dim=1)
        made = []
        for at, generator in enumerate(self.generators.values()):
            others_BX = torch.cat([x_BMD[:, :at], x_BMD[:, at + 1 :]], dim=1).flatten(1)
            made.append(generator(torch.cat([others_BX, private_MD[at].expand(len(x_BMD), -1)], dim=1)))
        generated_BMD: Tensor = self.generated_norm(torch.stack(made, dim=1))
        return generated_BMD

    def private(self, shared_ND: Tensor) -> Tensor:
        """P_l [M,N,D] of S_l."""
        return torch.stack([part(shared_ND) for part in self.disentangle.values()])

    def fuse(self, x_BMD: Tensor, share_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Z [B,D] and w [B,M] of channels that count by their shares r; a row without any counts all: no NaN."""
        log_share_BM = torch.where((share_BM > 0).any(dim=1, keepdim=True), share_BM, 1.0).log()
        weight_BM = log_share_BM.exp()
        for level, shared_ND in zip(self.levels, self.prompts, strict=True):
            x_BMD, weight_BM = level(x_BMD, log_share_BM, shared_ND, self.private(shared_ND))
        return self.fused_norm((weight_BM[..., None] * x_BMD).sum(dim=1)), weight_BM

    @torch.no_grad()
    def _teach(self, batch: Batch, present_BM: Tensor) -> tuple[Tensor, Tensor]:
        """The network as its own teacher, frozen: X [B,M,D], and how far each channel moves the prediction [B,M].

        Dropout is off: what it moves is nobody's gain. Nothing is imputed on either side of the difference.
        """
        was_training = self.training
        self.eval()
        x_BMD = torch.stack(list(self.encoders.encoded(self, batch).values()), dim=1)
        channels = present_BM.shape[1]
        left_MM = ~torch.eye(channels, dtype=torch.bool, device=x_BMD.device)
        sets_VM = torch.cat([torch.ones_like(left_MM[:1]), left_MM])  # all, and all but each
        share_VBM = (present_BM & sets_VM[:, None]).to(x_BMD.dtype)
        embedding_XD, _ = self.fuse(x_BMD.repeat(len(sets_VM), 1, 1), share_VBM.flatten(0, 1))
        standard_VBK = self.head(embedding_XD).unflatten(0, (len(sets_VM), -1))
        self.train(was_training)
        return x_BMD, (standard_VBK[0] - standard_VBK[1:]).square().mean(dim=2).T

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The task, the evaluator and the generators on rows that can do without a channel, and the prompts' angles."""
        options = self.options
        terms = {
            "task": self.task_loss(output.prediction, batch),
            "disentanglement": options.disentanglement * self._entanglement(),
        }
        if "gain" not in output.terms:  # a lone channel, or gradients were off: then there is nothing to learn from
            return terms
        present_BM = self.present(batch)
        spare_BM = present_BM & (present_BM.sum(dim=1, keepdim=True) > 1)
        x_BMD = torch.stack(list(output.per_modality.values()), dim=1).detach()
        error_BM = (output.terms["generated"] - x_BMD).square().mean(dim=2)
        log_gain_BM = output.terms["log_gain"]
        surprise_BM = gaussian_nll(output.terms["gain"] + _FLOOR, log_gain_BM)
        return {
            **terms,
            "evaluation": mean_over(surprise_BM, spare_BM),
            "reconstruction": options.reconstruction * mean_over(error_BM, spare_BM),
        }

    def _entanglement(self) -> Tensor:
        """The mean squared cosine between prompts of different owners, within each level."""
        private_LMND = torch.stack([self.private(shared_ND) for shared_ND in self.prompts])
        owned_LOND = f.normalize(torch.cat([self.prompts[:, None], private_LMND], dim=1), dim=-1)
        owners, prompts = owned_LOND.shape[1:3]
        flat_LXD = owned_LOND.flatten(1, 2)
        owner_X = torch.arange(owners, device=flat_LXD.device).repeat_interleave(prompts)
        return (flat_LXD @ flat_LXD.mT)[:, owner_X[:, None] != owner_X].square().mean()

    def own_groups(self) -> list[ParameterGroup]:
        """One group a channel, the shared prompts, and the evaluator if there is one."""
        groups = [*super().own_groups(), ParameterGroup("prompts", (self.prompts,))]
        if self.evaluator is not None:
            groups.append(ParameterGroup("evaluator", tuple(self.evaluator.parameters())))
        return groups
