"""The training loop that problems 3 and 4 share: the data on the device, the whole step there, one sync an epoch.

    trainer = Trainer(model, device, prepare, learning_rate=0.1)
    for _ in range(num_epochs):
        losses = trainer.train(pixels, labels, split_in_batches(order, 64), rates)    one for each update
    loss, accuracy = trainer.evaluate(pixels, labels)

What to train on (`batches`: the images of each update) and how fast (`rates`: one for each update) is decided
beforehand, by pure functions; this loop only executes it.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

EVALUATION_BATCH = {"cpu": 500, "cuda": 2000}  # on a CPU what stays in its cache: a third faster for LeNet-5
WARM_UP = 3  # passes before a CUDA graph is captured, as torch's documentation asks


def on_device(images: np.ndarray, labels: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (n, h, w), uint8, as pixels (n, 1, h, w), uint8, and labels (n,) on the device, once for all."""
    return torch.tensor(images, device=device)[:, None], torch.tensor(labels, device=device)


def split_in_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return the indices `order` (n,) cut in batches of `batch_size`; a last, smaller batch is left out.

    Its batch statistics would be of another size. Raises ValueError for a size that is not between 1 and n.
    """
    if not 1 <= batch_size <= len(order):
        raise ValueError(f"the batch size is {batch_size}; it must be between 1 and the {len(order)} training images")
    whole = len(order) // batch_size * batch_size
    return list(order[:whole].reshape(-1, batch_size))


def fastest_precision(device: torch.device) -> str:
    """Return the precision that a convolutional network trains fastest in: bfloat16 where the device multiplies it."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "float32"


def shift_and_flip(images: torch.Tensor, draws: torch.Tensor, largest: int) -> torch.Tensor:
    """Return images (n, c, h, w) moved by draws[:, 0] rows and draws[:, 1] columns, mirrored where draws[:, 2] is 1.

    draws (n, 3), integers; shifts between -largest and largest; what moves in repeats the edge.
    """
    n, _, height, width = images.shape
    padded = functional.pad(images, [largest] * 4, mode="replicate")
    rows = torch.arange(height, device=images.device) + largest - draws[:, :1]  # (n, h)
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(draws[:, 2:] == 1, width - 1 - columns, columns) + largest - draws[:, 1:2]  # (n, w)
    which = torch.arange(n, device=images.device)[:, None, None]
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Trainer:
    """A model on its device, with SGD with momentum; trains by the batch, evaluates in large ones."""

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        prepare: Callable[[torch.Tensor], torch.Tensor],
        *,
        learning_rate: float,
        momentum: float = 0.9,
        precision: str = "float32",
        largest_shift: int | None = None,
        micro_batch: int | None = None,
        seed: int = 0,
    ):
        """Move the model to the device, in channels-last order.

        `prepare` makes floating-point images of pixels (n, 1, h, w), uint8. `precision`: float32, float64, or bfloat16
        by autocast. `largest_shift`: augment with random shifts up to so many pixels, and mirror half of
        them. `micro_batch`: gradients of larger batches are added up over so many images at a time, which is also
        what batch norm sees. Raises ValueError for a learning rate that is not positive.
        """
        if not learning_rate > 0:
            raise ValueError(f"the learning rate is {learning_rate}; it must be positive")
        self.device, self.prepare, self.precision = device, prepare, precision
        self.largest_shift, self.micro_batch = largest_shift, micro_batch
        self.model = model.to(device, torch.float64 if precision == "float64" else None)
        self.model = self.model.to(memory_format=torch.channels_last)
        cuda = device.type == "cuda"
        if cuda:
            torch.backends.cudnn.benchmark = True  # before a step is captured: the fastest convolutions
            torch.backends.cudnn.allow_tf32 = False  # "float32" is what it says; bfloat16 is not concerned
        # On a GPU the rate is a tensor, so that a captured step reads it anew.
        rate = torch.tensor(float(learning_rate), device=device) if cuda else learning_rate
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate, momentum=momentum, fused=True)
        self.generator = torch.Generator().manual_seed(seed)  # of the augmentation
        self._graphs: dict | None = {} if cuda else None

    def train(
        self, pixels: torch.Tensor, labels: torch.Tensor, batches: Sequence[np.ndarray], rates: Iterable[float]
    ) -> np.ndarray:
        """Take one update for each batch (indices into pixels) at each rate; return the losses (updates,).

        A loss is the batch's mean before its update, with dropout and augmentation as trained on. Raises ValueError for
        a batch of one image if the model has batch norm.
        """
        self._check_several(min(len(batch) for batch in batches))
        self.model.train()
        losses = []
        plans = torch.cat([self._plan(torch.as_tensor(batch)) for batch in batches]).to(self.device)  # one transfer
        for plan, rate in zip(plans.split([len(batch) for batch in batches]), rates, strict=True):
            self._set_rate(rate)
            parts = [self._accumulate(pixels, labels, part, 1 / len(plan)) for part in self._micro_batches(plan)]
            self.optimizer.step()
            self._zero_gradients()
            losses.append(torch.stack(parts).sum() if len(parts) > 1 else parts[0])
        return torch.stack(losses).cpu().double().numpy()

    def gradient(self, pixels: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Return the gradient (parameters,) of the mean loss of these images, as one vector, without an update.

        As in training: with dropout, augmentation and batch statistics, which the running ones take in.
        """
        self._check_several(len(indices))
        self.model.train()
        self._zero_gradients()
        self._accumulate(pixels, labels, self._plan(indices).to(self.device), 1 / len(indices))
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        gradient = torch.cat([part.flatten() for part in gradients])
        self._zero_gradients()
        return gradient

    @torch.no_grad()
    def evaluate(self, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        """Return the mean loss and the accuracy in evaluation mode: no dropout, running statistics, no augmentation.

        Both are NaN where a logit is not finite: its largest entry would still be taken for a class.
        """
        self.model.eval()
        loss, correct, size = 0.0, 0, EVALUATION_BATCH[self.device.type]
        for i in range(0, len(pixels), size):
            logits, target = self.logits(pixels[i : i + size]), labels[i : i + size]
            if not torch.isfinite(logits).all():
                return math.nan, math.nan
            loss += float(functional.cross_entropy(logits, target, reduction="sum"))
            correct += int((logits.argmax(1) == target).sum())
        return loss / len(pixels), correct / len(pixels)

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (n, classes), in at least single precision, of pixels (n, 1, h, w), uint8."""
        return self._forward(self.prepare(pixels))

    def _forward(self, images):
        images = images.to(torch.float64 if self.precision == "float64" else torch.float32)
        images = images.contiguous(memory_format=torch.channels_last)
        half = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext():
            logits = self.model(images)
        return logits.float() if half else logits

    def _plan(self, indices):
        """Return what one batch is made of (n, 4): its images' indices and their augmentation."""
        return torch.cat((indices[:, None], self._draws(len(indices))), dim=1)

    def _check_several(self, images):
        """Refuse to train batch norm on single images, which have no batch statistics."""
        if min(images, self.micro_batch or images) > 1:
            return
        if any(isinstance(module, _BatchNorm) for module in self.model.modules()):
            raise ValueError("a batch has one image, which has no batch statistics; batch norm needs two or more")

    def _micro_batches(self, plan):
        """Return the parts of a batch whose gradients are added up; a single image left over joins the one before."""
        parts = list(plan.split(self.micro_batch or len(plan)))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def _draws(self, n):
        """Return the augmentation (n, 3) of n images: rows, columns, mirrored or not."""
        if self.largest_shift is None:
            return torch.zeros(n, 3, dtype=torch.long)
        shifts = torch.randint(-self.largest_shift, self.largest_shift + 1, (n, 2), generator=self.generator)
        return torch.cat((shifts, torch.randint(0, 2, (n, 1), generator=self.generator)), dim=1)

    def _zero_gradients(self):
        """Forget the gradients; where a captured graph writes to them, keep the tensors that it knows."""
        self.optimizer.zero_grad(set_to_none=self._graphs is None)

    def _set_rate(self, rate):
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _accumulate(self, pixels, labels, plan, scale):
        """Add the gradient of scale * (sum of the losses of these images); return that sum, scaled."""
        if self._graphs is None:
            return self._pass(pixels, labels, plan, scale)
        key = (len(plan), pixels.data_ptr(), labels.data_ptr())
        if key not in self._graphs:
            # A graph reads pixels and labels where they lay: they are kept, so that nothing else comes to lie there.
            self._graphs[key] = (*self._capture(pixels, labels, plan), pixels, labels)
        graph, static_plan, static_scale, loss, *_ = self._graphs[key]
        static_plan.copy_(plan)
        static_scale.fill_(scale)
        graph.replay()
        return loss.clone()

    def _pass(self, pixels, labels, plan, scale):
        images = self.prepare(pixels[plan[:, 0]])
        if self.largest_shift is not None:
            images = shift_and_flip(images, plan[:, 1:], self.largest_shift)
        loss = functional.cross_entropy(self._forward(images), labels[plan[:, 0]], reduction="sum") * scale
        loss.backward()
        return loss.detach()

    def _capture(self, pixels, labels, plan):
        """Return (CUDA graph of one pass, its inputs, its output); model and gradients are left as they were."""
        plan, scale = plan.clone(), torch.zeros((), device=self.device)
        tensors = dict(self.model.named_buffers()) | {
            f"gradient of {name}": p.grad for name, p in self.model.named_parameters() if p.grad is not None
        }
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._pass(pixels, labels, plan, scale)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._pass(pixels, labels, plan, scale)
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()  # those that were not there before
            for name, tensor in tensors.items():
                tensor.copy_(before[name])
        return graph, plan, scale, loss
