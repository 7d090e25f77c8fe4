"""The objectives by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedlmd.diffusion import Schedule
from fedlmd.models import DenoiserConfig, UNet, turned
from fedlmd.training.objectives import FOCUS, Batch, classification, denoising, proximal
from tests.diffusion.exact import SCHEDULE, Exact, digits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Module(nn.Module):
    """A network made of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classification_is_cross_entropy(smoothing):
    logits, labels = torch.randn(5, 3, generator=generator()), torch.tensor([0, 2, 1, 1, 0])
    loss = classification(smoothing)(Module(lambda images: logits), Batch(torch.zeros(5, 1, 2, 2), labels))
    assert torch.equal(loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))


def test_with_views_label_and_view_are_one_class():
    images, labels = torch.randn(3, 1, 4, 4, generator=generator(1)), torch.tensor([1, 0, 1])
    shown = []

    class Joint(nn.Module):
        def joint(self, images):
            shown.append(images)
            # Logits that depend on the image, of 2 labels in 4 views.
            return images.flatten(1)[:, :8].unflatten(1, (2, 4))

    loss = classification(views=4, shown=2, generator=generator(7))(Joint(), Batch(images, labels))
    drawn = torch.randperm(4, generator=generator(7))[:2].tolist()
    assert torch.equal(shown[0], torch.cat([turned(images, view) for view in drawn]))
    by_hand = [
        -shown[0][3 * position + i].flatten()[:8].log_softmax(0)[labels[i] * 4 + view]
        for position, view in enumerate(drawn)
        for i in range(3)
    ]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())


def test_over_many_steps_every_view_is_shown():
    seen = set()

    class Joint(nn.Module):
        def joint(self, images):
            seen.update(int(image.argmax()) for image in images)
            return images.flatten(1)[:, :1].unflatten(1, (1, 1)).expand(-1, 1, 4)

    corner = torch.zeros(1, 1, 2, 2)
    corner[0, 0, 0, 0] = 1
    objective = classification(views=4, generator=generator())
    for _ in range(20):
        objective(Joint(), Batch(corner, torch.tensor([0])))
    assert seen == {0, 1, 2, 3}


def test_label_smoothing_by_hand():
    logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    loss = classification(0.2)(Module(lambda images: logits), Batch(torch.zeros(1, 1, 1, 1), labels))
    log = logits.log_softmax(1)[0]
    assert loss.item() == pytest.approx(-(0.9 * log[0] + 0.1 * log[1]).item())


def seen(label_dropout, count=400, classes=5, seed=0):
    """What the objective shows a network: noisy images, levels, labels."""
    shown = []

    def network(x_t, t, labels):
        shown.append((x_t, t, labels))
        return torch.zeros_like(x_t)

    objective = denoising(SCHEDULE, classes, label_dropout=label_dropout, generator=generator(seed))
    loss = objective(Module(network), Batch(torch.zeros(count, 1, 2, 2), torch.full((count,), 3)))
    return loss, *shown[0]


def test_the_denoising_loss_is_the_squared_error_of_the_velocity_by_hand():
    # Of a black image at 0 the velocity is alpha n and the noisy image sigma n.
    loss, x_t, t, _ = seen(0.0)
    alpha, sigma = SCHEDULE.signal(t)
    assert loss.item() == pytest.approx((alpha * x_t / sigma).square().mean().item(), rel=1e-4)


def test_half_of_the_noise_levels_are_uniform_and_half_lie_in_the_focus_stratified_over_the_batch():
    low, high = (int(1000 * level) for level in FOCUS)
    for seed in range(20):
        _, _, t, _ = seen(0.0, count=100, seed=seed)
        everywhere, focus = t[:50], t[50:]
        assert torch.equal(everywhere // 20, torch.arange(50))
        assert torch.equal((focus - low) * 50 // (high - low), torch.arange(50))


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.25, 65, 135), (1.0, 400, 400)])
def test_so_many_labels_are_dropped(share, low, high):
    _, _, _, labels = seen(share)
    assert low <= int((labels == 5).sum()) <= high
    assert set(labels.tolist()) <= {3, 5}


def test_the_generator_decides_all_that_is_random():
    first, again, other = (seen(0.5, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_the_exact_denoiser_of_one_image_has_no_loss():
    images = digits(1)[0].repeat(64, 1, 1, 1)
    objective = denoising(SCHEDULE, 10, label_dropout=1.0, generator=generator())
    loss = objective(Module(Exact(images[:1], SCHEDULE)), Batch(images, torch.zeros(64, dtype=torch.int64)))
    assert loss.item() < 1e-6


def test_the_exact_denoiser_of_two_images_has_the_irreducible_loss_and_every_change_to_it_has_more():
    images = 0.1 * digits(2)[0]  # so faint that many noise levels leave it open which of the two it is
    batch = Batch(images.repeat(500, 1, 1, 1), torch.zeros(1000, dtype=torch.int64))
    exact = Exact(images, SCHEDULE)

    def loss(network):
        return denoising(SCHEDULE, 10, label_dropout=1.0, generator=generator())(Module(network), batch).item()

    # E|v - E[v|x_t]|^2 = Var(x_0 | x_t) / sigma^2, here p (1 - p) |a - b|^2 / sigma^2 with p drawn along the levels,
    # half of them everywhere and half in the focus.
    low, high = (int(1000 * level) for level in FOCUS)
    everywhere, focus = torch.arange(1000).repeat_interleave(4), torch.arange(low, high)
    t = torch.cat([everywhere, focus.repeat_interleave(9)[:4000]])
    x_t = SCHEDULE.add_noise(images.repeat(4000, 1, 1, 1), torch.randn(8000, 1, 28, 28, generator=generator(5)), t)
    p = exact.posterior(x_t, t)[:, 0]
    apart = (images[0] - images[1]).double().square().mean()
    irreducible = (p * (1 - p) * apart / SCHEDULE.signal(t)[1].flatten().double() ** 2).mean().item()
    best = loss(exact)
    assert best == pytest.approx(irreducible, rel=0.1)
    for change in (0.02, -0.02):
        assert loss(lambda x_t, t, label, by=change: exact(x_t, t, label) + by) > best
        assert loss(lambda x_t, t, label, by=change: exact(x_t, t, label) * (1 + by)) > best


def test_the_pull_of_fedprox_and_its_gradient_by_hand():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
    objective = proximal(lambda model, batch: model.weight.sum(), 0.5, model)
    nn.init.constant_(model.weight, 3.0)
    loss = objective(model, Batch(torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64)))
    assert loss.item() == 6 + 0.25 * (2**2 + 5**2)
    loss.backward()
    assert model.weight.grad.tolist() == [[1 + 0.5 * 2, 1 + 0.5 * 5]]


def test_without_strength_there_is_no_pull_at_all():
    objective = classification()
    assert proximal(objective, 0.0, nn.Linear(2, 1)) is objective


def test_losses_are_computed_where_the_network_is():
    config = DenoiserConfig(classes=3, widths=(8, 16))
    batch = Batch(torch.zeros(4, 1, 28, 28, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta"))
    objective = denoising(Schedule(), 3, label_dropout=0.5, generator=torch.Generator().manual_seed(0))
    assert objective(UNet(config).to("meta"), batch).device.type == "meta"
