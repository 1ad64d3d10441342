"""An evaluation refuses architectures before it reads or trains anything for them."""

import pytest

from ddhub import api
from ddhub.base.errors import UserError
from ddhub.data import source
from ddhub.evaluation.probe import check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arch", "said"), [("resnet19", "did you mean 'resnet18'"), ("timm:inception_v3", "cannot run on 8x8 images")]
)
def test_an_architecture_that_cannot_run_is_refused_first(arch, said, folder, monkeypatch):
    """No teacher is asked for, no test image is read, no row is made."""
    monkeypatch.setattr(check, "probe", lambda *_, **__: pytest.fail("a probe is made"))
    monkeypatch.setattr(source, "load_test", lambda *_: pytest.fail("test images are read"))
    with pytest.raises(UserError) as caught:
        api.evaluate(folder, ["convnet2_w8", arch], threads=1)
    assert said in str(caught.value)
    assert not (folder / "evaluation").exists()
