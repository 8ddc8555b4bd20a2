"""BERT of the `transformers` library as an encoder: tokens to one vector per token (extra `nlp`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from adapt.encoders import encoders
from adapt.encoders.fetching import fetching, never_unpickled

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MISSING = "encoder 'bert' needs the package transformers: pip install -e '.[nlp]'"


@encoders.register("bert")
class BertEncoder(nn.Module):
    """Tokens (B,3,L) to maps (B,C,1,L), one vector of C channels per token.

    Where other encoders take images, this one takes integers, along dimension 1: token ids, the attention mask (1 for
    tokens, 0 for padding) and token types (0 for the question, 1 for the text). The "image size" is the length L.

    Args:
        pretrained: a name or folder for `BertModel.from_pretrained`; empty for random weights.
        **config: settings of `BertConfig` for random weights; by default BERT base.

    Raises:
        ImportError: transformers is not installed.

    Attributes:
        SETTINGS: what of a `BertConfig` makes the network.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
    )

    def __init__(self, pretrained: str = "", **config: Any) -> None:
        super().__init__()
        try:
            from transformers import BertConfig, BertModel
        except ImportError as error:
            raise ImportError(MISSING) from error
        if pretrained:
            # A folder needs no network.
            with never_unpickled() if Path(pretrained).is_dir() else fetching(f"bert/{pretrained}"):
                self.bert = BertModel.from_pretrained(pretrained, add_pooling_layer=False)
        else:
            self.bert = BertModel(BertConfig(**config), add_pooling_layer=False)
        count = len(self.bert.encoder.layer)
        self.layer_names = tuple(f"bert.encoder.layer.{(i + 1) * count // 4 - 1}" for i in range(4) if count >= 4)

    def settings(self) -> dict[str, Any]:
        """Constructor arguments of the same network with random weights."""
        return {name: getattr(self.bert.config, name) for name in self.SETTINGS}

    def example(self, height: int, width: int) -> Tensor:
        """One sequence of `width` tokens, int64 (1,3,width)."""
        tokens = torch.zeros(1, 3, width, dtype=torch.int64)
        tokens[:, 1] = 1
        return tokens

    def prepare(self, tokens: Tensor) -> Tensor:
        """Check the tokens; raises ValueError unless they are int64 (B,3,L)."""
        if tokens.dtype != torch.int64 or tokens.ndim != 3 or tokens.shape[1] != 3:
            wanted = "int64 (B,3,L): ids, attention mask, token types"
            raise ValueError(f"tokens must be {wanted}; got {tokens.dtype} {tuple(tokens.shape)}")
        return tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B,3,L) to vectors (B,C,1,L)."""
        ids, mask, types = tokens.unbind(1)
        hidden = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        output: Tensor = hidden.transpose(1, 2).unsqueeze(2)
        return output


def write_bert(folder: Path, tokenizer: Tokenizer, **config: Any) -> None:
    """Write an untrained BERT and its tokenizer as a folder that `base=bert` reads, for machines without downloads.

    Args:
        folder: where; made if absent.
        tokenizer: for example of `adapt.datasets.squad.train_tokenizer`.
        **config: settings of `BertConfig`; `vocab_size` is the tokenizer's.

    Raises:
        ImportError: transformers is not installed.
    """
    network = BertEncoder(**{**config, "vocab_size": tokenizer.get_vocab_size()})
    network.bert.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
