"""The probe: what a linear classifier, fitted on the model as it is, still finds in its final hidden states."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from transformers import PreTrainedModel

from ...errors import AnalysisError
from ...ingest.activations.tokens import TokenizedCorpus, arrays_sha256
from .readout import Advance, Readout, Texts

INVERSE_REGULARISATION = 0.001
"""C of every probe's L2 penalty, on standardised features. It is strong, as rare functions have fewer instances than
features: of powers of ten the best on supersenses of SemCor in MiniLM, and within .01 of the best in SmolLM2."""

_ITERATIONS = 2000  # far more than such a penalty needs; a probe that has not converged by then is refused


class ProbeReadout(Readout):
    """Balanced accuracy of one logistic regression per function on the final hidden states of the model.

    An instance's features are its hidden states, averaged over its tokens. The probes are fitted on half a with the
    model as it is, on standardised features, and stay as they are when neurons are ablated. The strata are the labels,
    so chance is .5. The `model` of an encoder-decoder is its encoder.
    """

    kind = "probe"
    metric = "balanced accuracy"

    def __init__(self, texts: Texts) -> None:
        encoder = texts.model.parts[0]
        self.model = cast("PreTrainedModel", texts.model.module.get_submodule(encoder.path))
        self._texts = replace(texts, model=replace(texts.model, module=self.model, parts=(replace(encoder, path=""),)))
        self.functions = texts.functions
        self.instance_id = texts.read.tokens.instance_id
        self.text = texts.read.tokens.text
        self.strata = texts.read.labels
        self.chance = np.full(len(self.functions), 0.5)
        self.n_fitted_texts = texts.fitted.tokens.n_texts
        features = self._features(texts.fitted.tokens)
        if not np.isfinite(features).all():
            states = f"the final hidden states of model {texts.model.name} on corpus {texts.corpus.name}"
            raise AnalysisError(f"{states} are not finite everywhere; is its floating-point type too narrow?")
        self._mean = features.mean(0)
        deviation = features.std(0)
        self._deviation = np.where(deviation > 0, deviation, 1.0)
        features = (features - self._mean) / self._deviation
        self._weights, self._intercepts = _fit(features, texts.fitted.labels, texts.functions)
        read = np.frombuffer(texts.read.tokens.sha256().encode(), np.uint8)
        fitted = (self._mean, self._deviation, self._weights, self._intercepts)
        self.sha256 = arrays_sha256(read, self.strata, *fitted)

    def read(self, advance: Advance = None) -> NDArray[np.float32]:
        """Return 1 where a function's probe is right about an instance, and 0 elsewhere (see `Readout.read`)."""
        # An ablated model may overflow: what is not a number is no positive.
        with np.errstate(invalid="ignore", over="ignore"):
            features = (self._features(self._texts.read.tokens, advance) - self._mean) / self._deviation
            decisions = self._weights @ features.T + self._intercepts[:, None] > 0
        return np.asarray(np.where(decisions, self.strata == 1, self.strata == 0), dtype=np.float32)

    @torch.inference_mode()
    def _features(self, tokens: TokenizedCorpus, advance: Advance = None) -> NDArray[np.float64]:
        """Return the mean of each instance's final hidden states, taken in float32. [instances, hidden]."""
        pooled = []
        for _, inputs, spans in self._texts.batches(tokens, advance=advance):
            states = self.model(**inputs)[0].float()
            where = spans[self._texts.model.parts[0].stack]
            layout = where.layout(states.shape[1], states.device)
            pooled.append(layout.pool(states.flatten(0, 1), where.n_instances, "mean").cpu().numpy())
        return np.concatenate(pooled).astype(np.float64)


def _fit(
    features: NDArray[np.float64], labels: NDArray[np.int8], functions: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights [functions, features] and intercepts [functions] of a probe for each function."""
    weights, intercepts = [], []
    for (family, function), label in zip(functions, labels, strict=True):
        inside = label >= 0
        probe = LogisticRegression(C=INVERSE_REGULARISATION, class_weight="balanced", max_iter=_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(features[inside], label[inside])
        if probe.n_iter_[0] >= _ITERATIONS:
            raise AnalysisError(f"the probe of {family}/{function} does not converge within {_ITERATIONS:,} iterations")
        weights.append(probe.coef_[0])
        intercepts.append(probe.intercept_[0])
    return np.stack(weights), np.array(intercepts)
