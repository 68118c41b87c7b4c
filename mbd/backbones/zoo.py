"""The only list of backbones. It knows their names and nothing else about them."""

import dataclasses
from collections.abc import Mapping

from mbd.backbones.alignmamba import AlignMamba
from mbd.backbones.base import Backbone, Interface
from mbd.backbones.cagmamba import CagMamba
from mbd.backbones.control import MaskedTrainingControl
from mbd.backbones.ebmc import EnhanceThenBalance
from mbd.backbones.late_fusion import LateFusion
from mbd.backbones.mbd import MissingByDesign
from mbd.backbones.prlf import Prlf
from mbd.backbones.promma import Promma
from mbd.backbones.qa_moe import QualityAwareMoE
from mbd.backbones.tsd import TriSubspaceDisentanglement
from mbd.errors import TrainingError

ZOO: Mapping[str, type[Backbone]] = {
    backbone.name: backbone
    for backbone in (
        MissingByDesign,
        EnhanceThenBalance,
        QualityAwareMoE,
        Promma,
        CagMamba,
        AlignMamba,
        Prlf,
        TriSubspaceDisentanglement,
        MaskedTrainingControl,
        LateFusion,
    )
}


def known(name: str) -> type[Backbone]:
    """The backbone of a name.

    Raises:
        TrainingError: no backbone has it.
    """
    if name not in ZOO:
        raise TrainingError(f"There is no backbone '{name}'.", remedy=f"use one of: {', '.join(ZOO)}")
    return ZOO[name]


def build(name: str, interface: Interface, options: Mapping[str, int | float]) -> Backbone:
    """A freshly initialised backbone, drawn from torch's current generator.

    Raises:
        TrainingError: no backbone has that name, or the backbone has no such option.
    """
    kind = known(name)
    fields = {field.name for field in dataclasses.fields(kind.Options)}
    if unknown := sorted(set(options) - fields):
        raise TrainingError(
            f"The backbone '{name}' has no option {', '.join(unknown)}.",
            remedy=f"use options among: {', '.join(sorted(fields))}",
        )
    return kind(interface, kind.Options(**options))
