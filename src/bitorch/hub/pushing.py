"""Giving a net to a repository of the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from ..conversion.layer_configs import Configs
from ..deployment.runtime.packed_model import PackedModel
from ..quantizations.spelling import Quantizers
from .saving import NO_QUANTIZERS, save_as


def push(
    net: nn.Module | PackedModel,
    repo_id: str,
    *,
    config: Configs | None = None,
    quantizers: Quantizers = NO_QUANTIZERS,
    card: str | None = None,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "A net of bitorch",
    token: str | None = None,
) -> str:
    """Write a net into a repository of the Hugging Face hub, which is made if it is not there, and return its URL.

    Args:
        net, config, quantizers, card, license: as of `save`.
        repo_id: "owner/name".
        private: of a new repository; None: as the owner's are.
        revision: the branch; None: main.
        commit_message: of the one commit.
        token: None: the one that `hf auth login`, or HF_TOKEN, has set.

    Raises:
        ImportError: the package huggingface_hub is missing.
        TypeError, ValueError: as `save`, before anything is sent.
        huggingface_hub.errors.HfHubHTTPError: the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError:
        raise ImportError('pushing needs the package huggingface_hub: pip install "bitorch-lowbit[hub]"') from None
    with tempfile.TemporaryDirectory() as folder:
        save_as(net, Path(folder), config=config, quantizers=quantizers, card=card, license=license, place=repo_id)
        api = HfApi(token=token)
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message, revision=revision)
    return str(url)
