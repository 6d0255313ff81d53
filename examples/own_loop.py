"""A search whose loop is yours: it ends when the found module has stayed the same for a while.

python examples/own_loop.py [DIR]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import kinocell as kc
from kinocell.space.drawing import text

PATIENCE = 2  # epochs in which the module must not change


def main(out: Path) -> None:
    """Prepare embedded videos, search until the module stays, choose the last one."""
    config = kc.RunConfig(
        out=str(out),
        synthetic=kc.SyntheticConfig(videos=40, groups=4),
        prepare=kc.PrepareConfig(short_side_px=37),
        clips=kc.ClipsConfig(size_px=32, flip=False),
        search=kc.SearchConfig(
            strategy="first", epochs=12, batch_size=10, alpha_learning_rate=0.01, choose="last"
        ),
    )
    kc.prepare(config)
    before, stayed = None, 0
    for epoch in kc.search_epochs(config):
        found = epoch.genotype.nodes
        stayed = stayed + 1 if found == before else 0
        before = found
        print(
            f"epoch {epoch.epoch + 1}: held-out accuracy {epoch.metrics['valid_accuracy']:.2f}, "
            f"entropy {epoch.metrics['entropy']:.3f}, same module for {stayed} epochs"
        )
        if stayed == PATIENCE:
            break
    # The loop was left early, so the choice among its epochs is made here.
    genotype = kc.derive(config)
    print(text(genotype))
    print(f"stopped after epoch {epoch.epoch + 1} of {config.search.epochs}")


if __name__ == "__main__":  # prepare decodes in several processes, which import this file
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
