"""The fine-tuned last blocks of EfficientNet-Lite0, and the committee of them and a CNN."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("efficientnet_lite_pytorch")

from fedlmd.models import ClassifierConfig, Committee, DenoiserConfig, EncoderConfig, LastBlocks, NetworksConfig, build
from fedlmd.models.encoders import load_encoder
from fedlmd.training.loop import parameter_groups
from fedlmd.training.objectives import Batch, classification

CONFIG = ClassifierConfig(10, 112, 3, widths=(8, 16), patch=1, views=1, head="learned", dropout=0.0)
LATENTS = torch.randn(4, 112, 10, 10, generator=torch.Generator().manual_seed(0))


def whitening(features=112, channels=112):
    """A random invertible whitening, as a run has it: only the leading features count."""
    generator = torch.Generator().manual_seed(1)
    projection = torch.zeros(channels, features + 5)
    projection[:, :features] = torch.randn(channels, features, generator=generator) / features**0.5
    projection[:, :features] += 2 * torch.eye(channels, features)
    return torch.randn(features + 5, generator=generator), projection


def committee():
    mean, projection = whitening()
    classifier = Committee(CONFIG).eval()
    classifier.follow(mean, projection)
    return classifier


def test_untrained_blocks_are_those_of_the_encoder():
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(2)) * 2 - 1
    names = {"name": "efficientnet-lite0", "leading": 0}
    (inputs,) = [load_encoder(EncoderConfig(layers=(10,), **names))(images)]
    later = load_encoder(EncoderConfig(layers=(11, 13, 15), **names))(images)
    mean, projection = whitening()
    latents = torch.einsum("bdhw,cd->bchw", inputs - mean[None, :112, None, None], projection[:, :112])
    blocks = LastBlocks(CONFIG).eval()
    blocks.follow(mean, projection)
    with torch.no_grad():
        maps = blocks.maps(latents)
    ours = torch.cat([maps[0], maps[2], maps[4]], dim=1)
    torch.testing.assert_close(ours, later, atol=2e-3, rtol=1e-3)


def test_an_odd_side_is_padded_as_in_the_encoder():
    images = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(2)) * 2 - 1
    inputs, later = (
        load_encoder(EncoderConfig(name="efficientnet-lite0", layers=(layer,), leading=0))(images) for layer in (10, 15)
    )
    assert inputs.shape[-1] == 7
    blocks = LastBlocks(CONFIG).eval()
    blocks.follow(torch.zeros(112), torch.eye(112))
    with torch.no_grad():
        torch.testing.assert_close(blocks.maps(inputs)[-1], later, atol=1e-3, rtol=1e-3)


def test_convolutions_over_neighbours_and_the_whitening_are_no_weights():
    blocks = LastBlocks(CONFIG)
    names = {name for name, _ in blocks.named_parameters()}
    assert set(blocks.state_dict()) == names
    assert names == {"head.weight", "head.bias"} | {
        f"blocks.{number}.{layer}.{kind}"
        for number in range(5)
        for layer in ("expand", "project")
        for kind in ("weight", "bias")
    }


def test_blocks_learn_at_a_quarter_of_the_rate():
    groups = parameter_groups(committee())
    assert [group["share"] for group in groups] == [0.25, 1.0]
    assert len(groups[0]["params"]) == 22
    assert sum(len(group["params"]) for group in groups) == len(list(committee().parameters()))


def test_more_than_one_view_is_refused():
    with pytest.raises(ValueError, match="views is 4"):
        LastBlocks(ClassifierConfig(10, 112, 3, widths=(8,), patch=1))


def test_logits_are_the_means_of_both_and_the_cnn_has_the_leading_channels():
    classifier = committee()
    both = [classifier.cnn(LATENTS[:, :64]), classifier.last_blocks(LATENTS)]
    torch.testing.assert_close(classifier(LATENTS), torch.stack(both).mean(0))
    members = [member(part) for member, part in classifier.members(LATENTS)]
    torch.testing.assert_close(torch.stack(members), torch.stack(both))
    assert classifier.joint(LATENTS).shape == (4, 3, 1)
    assert [maps.shape[1] for maps in classifier.maps(LATENTS)] == [8, 16]


def test_both_contribute_alike_to_distances():
    classifier = committee()
    embedding = classifier.embedding(LATENTS)
    scaled = classifier.unit_length(embedding)
    assert embedding.shape == (4, 16 + 320)
    torch.testing.assert_close(scaled.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(scaled[:, :16].norm(dim=1), scaled[:, 16:].norm(dim=1))
    assert classifier.stages_embedding(LATENTS).shape == (4, 8 + 16 + 320)


def test_each_has_its_own_loss():
    classifier, labels = committee(), torch.tensor([0, 1, 2, 0])
    loss = classification()(classifier, Batch(LATENTS, labels))
    alone = [F.cross_entropy(member(part), labels) for member, part in classifier.members(LATENTS)]
    torch.testing.assert_close(loss, torch.stack(alone).mean())


def test_networks_give_the_blocks_the_runs_whitening():
    mean, projection = whitening()
    encoder = EncoderConfig("efficientnet-lite0", channels=112, features=117, leading=112, side=10)
    arrays = {"mean": mean, "projection": projection, "deviation": torch.ones(117)}
    weights = {f"encoder.{name}": array.numpy() for name, array in arrays.items()}
    config = ClassifierConfig(**(vars(CONFIG) | {"network": "cnn+blocks"}))
    networks = NetworksConfig(config, DenoiserConfig(10, 112, 3, widths=(8,), patch=1), encoder=encoder)
    initial = build(networks).weights()
    first, again = build(networks, initial | weights), build(networks, weights | initial)
    inverse = first.classifier.last_blocks.unwhiten[:, :, 0, 0]
    torch.testing.assert_close(inverse @ projection[:, :112], torch.eye(112), atol=1e-4, rtol=0)
    torch.testing.assert_close(first.classifier(LATENTS), again.classifier(LATENTS))


WITH_THUMBNAIL = ClassifierConfig(**(vars(CONFIG) | {"channels": 112 + 48, "thumbnail": 40}))


def test_the_network_of_thumbnails_gets_the_thumbnail_and_the_others_do_not():
    classifier = Committee(WITH_THUMBNAIL).eval()
    pixels = torch.rand(4, 3, 40, 40, generator=torch.Generator().manual_seed(3)) * 2 - 1
    images = torch.cat([LATENTS, F.pixel_unshuffle(pixels, 4)], dim=1)
    (cnn, leading), (blocks, latents) = classifier.members(images)
    small = classifier.thumbnail_cnn
    assert torch.equal(classifier.thumbnails(images), pixels)
    assert torch.equal(latents, LATENTS)
    assert torch.equal(leading, LATENTS[:, :64])
    assert small.config.views == 4
    # Predictions and embeddings are those of latents, with a thumbnail beside them or without.
    torch.testing.assert_close(classifier(images), torch.stack([cnn(leading), blocks(latents)]).mean(0))
    torch.testing.assert_close(classifier(LATENTS), classifier(images))
    torch.testing.assert_close(classifier.stages_embedding(LATENTS), classifier.stages_embedding(images))
    expected = F.normalize(small.embedding(pixels).reshape(4, 4, 16).mean(1))
    torch.testing.assert_close(classifier.thumbnail_embedding(images), expected)


def test_a_classifier_without_thumbnails_says_so():
    for classifier in (committee(), LastBlocks(CONFIG)):
        with pytest.raises(ValueError, match="gets no thumbnails"):
            classifier.thumbnail_embedding(LATENTS)
