"""The formulas, counts and storage of the weight-delta methods, each against its closed form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_networks import SIZE, make_base, make_images
from torch import Tensor, nn
from torch.nn import functional as F

from adapt import Adapted, Base, Incompatible, load, wrap
from adapt.core.base import random_base
from adapt.core.deltas import Delta
from adapt.encoders import build_encoder
from adapt.methods.residual_adapter import compress_jointly
from adapt.modules.binary import pack_levels, straight_through, unpack_levels
from adapt.modules.svd import factor, factor_jointly


def only_delta(adapted: Adapted, key: str) -> Delta:
    return adapted.method().deltas[key]


def gradients(delta: Delta, weight: Tensor, g: Tensor) -> dict[str, Tensor]:
    """dL/d(theta) where dL/d(task weight) = g."""
    delta.zero_grad()
    delta(weight).backward(g)
    return {name: p.grad.clone() for name, p in delta.named_parameters()}


def step(adapted: Adapted, tasks: tuple[str, ...] = (), rate: float = 0.1) -> None:
    """One optimiser step on the sum of the tasks' losses, each on images of its own."""
    adapted.train()
    names = tasks or (adapted.active,)
    every = {p for name in names for p in adapted.trainable(name)}
    optimiser = torch.optim.SGD(list(every), lr=rate)
    optimiser.zero_grad()
    for seed, name in enumerate(names):
        (adapted(image=make_images(seed=seed), task=name) - seed).pow(2).mean().backward()
    optimiser.step()
    for name in names:
        adapted.method(name).advance(6)
    adapted.eval()


def reloaded(adapted: Adapted, folder: Path) -> Adapted:
    adapted.save(folder)
    return load(adapted.base, folder).eval()


def assert_merges(adapted: Adapted, images: Tensor | None = None) -> None:
    adapted.eval()
    images = make_images() if images is None else images
    with torch.no_grad():
        output = adapted(image=images)
        assert torch.allclose(adapted.merge()(images), output, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(adapted.base(images), output, atol=1e-3)


def scatter(adapted: Adapted, size: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in adapted.trainable():
            p.add_(size * torch.randn(p.shape, generator=generator))


class TestBinary:
    def test_gradient_passes_as_if_nothing_were_decided(self) -> None:
        real = torch.tensor([-5.0, 0.2, 7.0], requires_grad=True)
        g = torch.tensor([3.0, -2.0, 0.5])
        hard = straight_through((real.detach() > 0).float(), real)
        assert hard.tolist() == [0, 1, 1]
        hard.backward(g)
        assert torch.equal(real.grad, g)

    @pytest.mark.parametrize("bits", [1, 2, 3, 8])
    def test_levels_come_back_and_take_their_bits(self, bits: int) -> None:
        levels = torch.randint(0, 2**bits, (5, 7, 3), generator=torch.Generator().manual_seed(0))
        packed = pack_levels(levels, bits)
        assert packed.dtype == torch.uint8
        assert packed.numel() == -(-bits * 105 // 8)
        assert torch.equal(unpack_levels(packed, bits, levels.shape).long(), levels)
        with pytest.raises(RuntimeError, match="cannot hold"):
            unpack_levels(packed[:-1], bits, levels.shape)


class TestPiggyback:
    def test_starts_as_the_base_and_keeps_its_statistics(self) -> None:
        base = make_base("conv")
        adapted = wrap(base, "piggyback", image_size=SIZE).train()
        assert torch.equal(adapted(image=make_images()), base(make_images()))
        step(adapted)
        assert set(adapted.method().pack()) == {"deltas.conv1.mask", "deltas.conv2.mask"}

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, [0, 0, 0, 1, 1]),
            ({"strict": True}, [0, 0, 0, 0, 1]),
            ({"mask": "ternary"}, [-1, 0, 0, 1, 1]),
            ({"mask": "ternary", "strict": True}, [-1, 0, 0, 0, 1]),
        ],
    )
    def test_thresholds(self, settings: dict[str, object], expected: list[int]) -> None:
        tau = 2.0**-8
        delta = only_delta(wrap(make_base("conv"), "piggyback", threshold=tau, **settings), "conv1")
        values = torch.tensor([-0.1, 0.0, 0.003, tau, 0.01])
        with torch.no_grad():
            delta.r.view(-1)[:5] = values
        assert delta.mask().view(-1)[:5].tolist() == expected
        mask = delta.mask()
        delta.unpack(delta.pack())
        assert torch.equal(delta.mask(), mask)

    @pytest.mark.parametrize("gradient", ["none", "average", "individual"])
    def test_gradient_is_g_times_w_scaled(self, gradient: str) -> None:
        base = make_base("conv")
        delta = only_delta(wrap(base, "piggyback", gradient=gradient), "conv1")
        weight = base.encoder.conv1.weight.clone()
        weight.view(-1)[0] = 0
        g = torch.randn_like(weight)
        by = {"none": torch.ones(()), "average": weight.abs().mean(), "individual": weight.abs()}[gradient]
        expected = torch.nan_to_num(g * weight / by)
        assert torch.allclose(gradients(delta, weight, g)["r"], expected, atol=1e-6)

    def test_initial_masks(self) -> None:
        base = make_base("conv")
        weight = base.encoder.conv1.weight
        by_weight = only_delta(wrap(base, "piggyback", init="weights"), "conv1")
        assert torch.allclose(by_weight.r, weight.abs().mean().expand_as(weight))
        uniform = only_delta(wrap(base, "piggyback", init="uniform", scale=0.02), "conv1").r
        assert uniform.abs().max() <= 0.02
        assert uniform.unique().numel() > 200
        with pytest.raises(ValueError, match="one of binary, ternary, got 'trinary'; did you mean 'ternary'"):
            wrap(base, "piggyback", mask="trinary")

    def test_a_resnet50_task_takes_one_bit_per_weight_on_disk(self, tmp_path: Path) -> None:
        adapted = wrap(Base(build_encoder("torchvision/resnet50")), "piggyback", init="uniform")
        adapted.save(tmp_path)
        on_disk = sum(8 * file.stat().st_size for file in tmp_path.iterdir())
        masked = sum(p.numel() for p in adapted.trainable())
        assert masked == 23_454_912
        assert masked <= on_disk <= 1.01 * masked
        assert adapted.budget().stored_bits <= 1.0001 * masked

    def test_ternary_takes_two_bits(self) -> None:
        adapted = wrap(make_base("conv"), "piggyback", "task", SIZE, mask="ternary")
        assert adapted.budget().stored_bits == 2 * (8 * 27 + 8 * 72)
        scatter(adapted)
        assert_merges(adapted)

    def test_trained_batch_norm_is_stored(self, tmp_path: Path) -> None:
        adapted = wrap(make_base("conv"), "piggyback", image_size=SIZE, norm="trained")
        scatter(adapted)
        step(adapted)
        images = make_images()
        assert torch.equal(reloaded(adapted, tmp_path)(image=images), adapted(image=images))


class TestWTPB:
    def test_formula_and_gradients(self) -> None:
        base = make_base("conv")
        delta = only_delta(wrap(base, "wtpb"), "conv1")
        weight = base.encoder.conv1.weight
        assert torch.equal(delta(weight), weight)
        assert delta.mask().all()
        assert 1e-5 <= delta.r.min() <= delta.r.max() <= 2e-5
        with torch.no_grad():
            delta.r.copy_(torch.randn_like(weight))
            for i, k in enumerate((0.5, -0.25, 2.0)):
                getattr(delta, f"k{i + 1}").fill_(k)
        m = (delta.r > 0).float()
        assert torch.allclose(delta(weight), weight + 0.5 - 0.25 * m + 2 * weight * m, atol=1e-6)
        g = torch.randn_like(weight)
        found = gradients(delta, weight, g)
        assert torch.allclose(found["r"], g * (-0.25 + 2 * weight), atol=1e-6)
        for name, factor_ in (("k1", g), ("k2", g * m), ("k3", g * m * weight)):
            assert torch.allclose(found[name], factor_.sum(), atol=1e-4)
        assert "k0" not in found

    def test_piggyback_is_a_special_case(self) -> None:
        base = make_base("conv")
        special = only_delta(wrap(base, "wtpb", k=[0, 0, 0, 1], learned=[False] * 4), "conv2")
        plain = only_delta(wrap(base, "piggyback"), "conv2")
        r = torch.randn_like(base.encoder.conv2.weight)
        with torch.no_grad():
            special.r.copy_(r)
            plain.r.copy_(r + 5e-3)
        assert torch.allclose(special(base.encoder.conv2.weight), plain(base.encoder.conv2.weight))
        assert set(special.pack()) == {"mask"}

    def test_stores_a_bit_per_weight_and_three_numbers_per_layer(self) -> None:
        adapted = wrap(make_base("conv"), "wtpb", "task", SIZE, norm="frozen")
        assert adapted.budget().stored_bits == 8 * 27 + 8 * 72 + 2 * 3 * 32
        scatter(adapted)
        assert_merges(adapted)


class TestBA2:
    def test_switches_drop_input_channels(self) -> None:
        base = make_base("conv")
        adapted = wrap(base, "ba2", image_size=SIZE)
        delta = only_delta(adapted, "conv2")
        layer, x = base.encoder.conv2, torch.randn(2, 8, 9, 9)
        with torch.no_grad():
            delta.r[[1, 4]] = -0.5
        off = torch.ones(8)
        off[[1, 4]] = 0
        task = F.conv2d(x, delta(layer.weight), layer.bias, layer.stride, layer.padding)
        assert torch.allclose(task, layer(x * off.view(8, 1, 1)), atol=1e-6)
        g = torch.randn_like(layer.weight)
        expected = (g * layer.weight).sum((0, 2, 3))
        assert torch.allclose(gradients(delta, layer.weight, g)["r"], expected, atol=1e-5)
        assert adapted.method().share().item() == pytest.approx(9 / 11)

    @pytest.mark.parametrize("groups", [2, 4])
    def test_switches_of_grouped_convolutions_are_of_input_channels_too(self, groups: int) -> None:
        layer = nn.Conv2d(4, 8, 3, groups=groups, bias=False)
        adapted = wrap(Base(nn.Sequential(layer)), "ba2", norm="frozen")
        delta = only_delta(adapted, "0")
        on = torch.tensor([1.0, -1.0, -1.0, 1.0])
        with torch.no_grad():
            delta.r.copy_(on)
        x = torch.randn(1, 4, 5, 5)
        task = F.conv2d(x, delta(layer.weight), groups=groups)
        assert torch.allclose(task, layer(x * (on > 0).view(4, 1, 1)), atol=1e-6)

    def test_multiplier_rises_above_the_budget_and_never_gets_negative(self) -> None:
        adapted = wrap(make_base("conv"), "ba2", image_size=SIZE, budget=0.5, multiplier_rate=0.2)
        method = adapted.method()
        assert method.penalty() == 0
        adapted.advance(1)
        assert method.multiplier == pytest.approx(0.1)
        assert method.penalty().item() == pytest.approx(0.1 * 0.5)
        method.penalty().backward()
        for delta in method.deltas.values():
            assert torch.allclose(delta.r.grad, torch.tensor(0.1 / 11))
            with torch.no_grad():
                delta.r.fill_(-1)
        for _ in range(3):
            adapted.advance(1)
        assert method.multiplier == 0
        assert method.penalty() == 0

    def test_a_budget_is_reached_by_training(self) -> None:
        adapted = wrap(make_base("conv"), "ba2", image_size=SIZE, budget=0.5, multiplier_rate=1.0)
        optimiser = torch.optim.SGD(adapted.trainable(), lr=0.1)
        method = adapted.method()
        for _ in range(60):
            optimiser.zero_grad()
            loss = (adapted(image=make_images()) - 1).pow(2).mean() + adapted.penalty()
            loss.backward()
            optimiser.step()
            adapted.advance(6)
        assert method.share() <= 0.5
        assert adapted.budget().stored_bits == 8 * 1 + 8 * 1 + 32 * 4 * 16


class TestDAN:
    def test_filters_are_combined_and_start_as_the_base(self) -> None:
        base = make_base("conv")
        delta = only_delta(wrap(base, "dan"), "conv2")
        weight, bias = base.encoder.conv2.weight, base.encoder.conv2.bias
        assert torch.equal(delta(weight), weight)
        assert torch.equal(delta.bias(bias), bias)
        a = torch.randn(8, 8)
        with torch.no_grad():
            delta.a.copy_(a)
            delta.b.zero_()
        x = torch.randn(2, 8, 9, 9)
        combined = torch.einsum("oc,bchw->bohw", a, F.conv2d(x, weight))
        assert torch.allclose(F.conv2d(x, delta(weight), delta.bias(bias)), combined, atol=1e-4)
        assert only_delta(wrap(base, "dan"), "conv1").bias(None) is None

    def test_random_start_counts_and_merge(self) -> None:
        adapted = wrap(make_base("conv"), "dan", "task", SIZE, init="random")
        assert adapted.budget().trainable_parameters == 64 + 64 + 8 + 32
        assert_merges(adapted)


class TestTAPS:
    @pytest.mark.parametrize(
        ("encoder", "layers", "weights"),
        [
            ("torchvision/resnet50", 53, 23_454_912),
            ("torchvision/resnet34", 36, 21_267_648),
            ("torchvision/densenet121", 120, 6_870_208),
            ("resnet26", 25, 5_806_944),
            ("timm/vit_small_patch16_224", 48, 21_233_664),
        ],
    )
    def test_gated_layers(self, encoder: str, layers: int, weights: int) -> None:
        gates = wrap(Base(build_encoder(encoder)), "taps").method().gates()
        assert len(gates) == layers
        assert sum(gate.d.numel() for gate in gates.values()) == weights

    def test_forward_and_gradients(self) -> None:
        base = make_base("conv")
        delta = only_delta(wrap(base, "taps"), "conv1")
        weight = base.encoder.conv1.weight
        assert torch.equal(delta(weight), weight)
        d, g = torch.randn_like(weight), torch.randn_like(weight)
        for score, on in ((0.1, 1.0), (0.09, 0.0), (-3.0, 0.0)):
            with torch.no_grad():
                delta.d.copy_(d)
                delta.s.fill_(score)
            assert torch.allclose(delta(weight), weight + on * d)
            found = gradients(delta, weight, g)
            assert torch.allclose(found["s"], (g * d).sum(), atol=1e-4)
            assert torch.equal(found["d"], on * g)

    @pytest.mark.parametrize(("layers", "divisor"), [(0, 2), (52, 52)])
    def test_penalty(self, layers: int, divisor: int) -> None:
        adapted = wrap(make_base("conv"), "taps", sparsity=0.5, penalty_layers=layers)
        scores = [gate.s for gate in adapted.method().gates().values()]
        with torch.no_grad():
            scores[0].fill_(-0.4)
        penalty = adapted.penalty()
        assert penalty.item() == pytest.approx(0.5 / divisor * (0.4 + 0.15))
        penalty.backward()
        assert [s.grad.item() for s in scores] == pytest.approx([-0.5 / divisor, 0.5 / divisor])

    def test_penalty_may_begin_later(self) -> None:
        adapted = wrap(make_base("conv"), "taps", penalty_from=10)
        adapted.advance(9)
        assert adapted.penalty() == 0
        adapted.advance(1)
        assert adapted.penalty() > 0

    def test_only_active_layers_are_stored(self, tmp_path: Path) -> None:
        adapted = wrap(make_base("conv"), "taps", image_size=SIZE)
        scatter(adapted, 0.02)
        with torch.no_grad():
            adapted.method().gates()["conv1"].s.fill_(0.05)
        step(adapted)
        stored = adapted.method().pack()
        assert [name for name in stored if name.startswith("deltas")] == ["deltas.conv2.d"]
        assert adapted.budget().stored_bits == 32 * (8 * 72 + 4 * 16)
        images = make_images()
        assert torch.equal(reloaded(adapted, tmp_path)(image=images), adapted(image=images))
        assert_merges(adapted)

    def test_published_share_of_parameters(self) -> None:
        """Aircraft at lambda 0.25: 80.92% with 11 of 25 layers, which must be these (Table 8)."""
        method = wrap(random_base("resnet26"), "taps").method()
        small = ["layer2.1.conv1", "layer2.1.conv2", "layer2.2.conv1", "layer2.2.conv2"]
        active = [*small, *(n for n in method.gates() if n.startswith("layer3") and n != "layer3.0.conv1")]
        for name, gate in method.gates().items():
            with torch.no_grad():
                gate.s.fill_(1.0 if name in active else 0.0)
        assert len(active) == 11
        assert 100 * method.parameter_share(100 * 257) == pytest.approx(80.92, abs=0.006)
        assert method.measures(100 * 257) == {
            "parameter_share": method.parameter_share(100 * 257),
            "layer_share": pytest.approx(11 / 25),
        }
        with torch.no_grad():
            for gate in method.gates().values():
                gate.s.zero_()
        assert 100 * method.parameter_share(47 * 257) == pytest.approx(0.13, abs=0.005)
        assert method.measures(1)["layer_share"] == 0

    def test_joint_tasks_train_shared_weights_and_keep_their_own(self, tmp_path: Path) -> None:
        base = make_base("conv")
        adapted = wrap(base, "taps", "a", SIZE, joint="standard").add("b", "taps", joint="standard")
        a, b = adapted.method("a"), adapted.method("b")
        assert a.trunk is b.trunk
        names = {*base.encoder.state_dict()}
        assert set(a.trunk.tensors()) == {n for n in names if n.startswith("conv")}
        step(adapted, ("a", "b"))
        assert not torch.equal(a.trunk.tensors()["conv1.weight"], base.encoder.conv1.weight)
        assert not torch.equal(a.norms.bn1.running_mean, b.norms.bn1.running_mean)
        assert not torch.equal(a.deltas.conv1.d, b.deltas.conv1.d)
        assert set(a.pack()) - set(b.pack()) == {"trunk.conv1/weight", "trunk.conv2/weight", "trunk.conv2/bias"}
        images = make_images()
        again = reloaded(adapted, tmp_path)
        for task in ("a", "b"):
            output = adapted(image=images, task=task)
            assert torch.equal(again(image=images, task=task), output)
            assert torch.allclose(adapted.merge(task)(images), output, atol=1e-5)
        assert len({id(p) for t in "ab" for p in adapted.trainable(t)}) == len(list(adapted.methods.parameters()))


def adapter_count(**settings: object) -> int:
    adapted = wrap(random_base("resnet26"), "residual_adapter", **settings)
    return sum(adapter.a.numel() for adapter in adapted.method().adapters())


class TestResidualAdapter:
    def test_counts_on_resnet26(self) -> None:
        total = adapter_count()
        assert total == 645_216
        assert adapter_count(kind="series") == 689_152
        shares = [adapter_count(placement=p) / total for p in ("early", "mid", "late", "half")]
        assert [round(100 * share, 1) for share in shares] == [4.8, 19.0, 76.2, 53.3]
        parallel = wrap(random_base("resnet26"), "residual_adapter", norm="frozen")
        assert parallel.budget().trainable_parameters == 645_216

    @pytest.mark.parametrize("kind", ["parallel", "series"])
    @pytest.mark.parametrize(
        "layer",
        [
            nn.Conv2d(4, 8, 3, 1, 1),
            nn.Conv2d(4, 8, 3, 2, 1, bias=False),
            nn.Conv2d(4, 8, 3, 2, 0),
            nn.Conv2d(4, 8, 3, 1, 5),
            nn.Conv2d(4, 8, 3, 2, 1, dilation=2),
            nn.Conv2d(4, 8, 3, 1, (2, 0), groups=2),
            nn.Conv2d(4, 8, 3, 1, 1, groups=4, bias=False),
        ],
        ids=["plain", "stride", "no padding", "wide padding", "dilation", "groups", "depthwise"],
    )
    def test_formula_and_folding(self, kind: str, layer: nn.Conv2d) -> None:
        base = Base(nn.Sequential(nn.Conv2d(3, 4, 1), layer, nn.BatchNorm2d(8)))
        adapted = wrap(base, "residual_adapter", image_size=SIZE, kind=kind)
        step(adapted)
        assert_merges(adapted)
        adapter = only_delta(adapted, "1")
        x = torch.randn(2, 4, 12, 12)
        y = layer(x)
        p = next(adapter.parameters()).detach()
        if layer.groups == 1:
            if kind == "series":
                inner = F.batch_norm(y, adapter.inner.running_mean, adapter.inner.running_var,
                                     adapter.inner.weight, adapter.inner.bias)  # fmt: skip
                expected = torch.einsum("oc,bchw->bohw", p, inner)
            else:
                centre = torch.zeros_like(layer.weight)
                centre[:, :, 1, 1] = p
                expected = F.conv2d(x, centre, None, layer.stride, layer.padding, layer.dilation)
            assert torch.allclose(adapter.branch(x, y), expected, atol=1e-5)

    def test_initial_scale_and_zero(self) -> None:
        adapters = wrap(random_base("resnet26"), "residual_adapter").method().adapters()
        assert adapters[-1].a.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
        base = make_base("conv")
        for kind in ("parallel", "series"):
            zero = wrap(base, "residual_adapter", image_size=SIZE, init="zero", kind=kind).eval()
            assert torch.equal(zero(image=make_images()), base(make_images()))

    def test_dropout_hits_only_the_input_of_the_chosen_adapters(self) -> None:
        def dropped(where: str) -> list[str]:
            method = wrap(random_base("resnet26"), "residual_adapter", dropout=0.5, dropout_at=where).method()
            return [key for key, delta in method.deltas.items() if delta.dropout]

        assert dropped("second") == [f"layer{i}/{j}/conv2" for i in (1, 2, 3) for j in range(4)]
        assert dropped("first") == ["conv1", *(f"layer{i}/{j}/conv1" for i in (1, 2, 3) for j in range(4))]
        assert len(dropped("all")) == 25
        adapter = only_delta(wrap(make_base("conv"), "residual_adapter", dropout=0.5, dropout_at="all"), "conv2")
        with torch.no_grad():
            adapter.a.copy_(torch.eye(8))
        x = torch.ones(40, 8, 4, 4)
        values = adapter.branch(x, x).flatten(2)
        assert torch.equal(values.amin(2), values.amax(2))
        assert set(values.unique().tolist()) == {0.0, 2.0}
        adapter.eval()
        assert torch.equal(adapter.branch(x, x)[..., 0], torch.ones(40, 8, 2))

    def test_svd_is_the_best_approximation(self) -> None:
        matrix = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
        b, g = factor(matrix, 5)
        assert (b.shape, g.shape) == ((12, 5), (20, 5))
        rest = torch.linalg.svdvals(matrix)[5:]
        assert torch.linalg.norm(matrix - b @ g.T).item() == pytest.approx(rest.norm().item(), rel=1e-5)
        assert torch.allclose(g.T @ g, torch.eye(5), atol=1e-5)
        shared = torch.randn(12, 3)
        matrices = [shared @ torch.randn(3, 20) for _ in range(4)]
        b, blocks = factor_jointly(matrices, 3)
        for original, block in zip(matrices, blocks, strict=True):
            assert torch.allclose(b @ block.T, original, atol=1e-4)

    @pytest.mark.parametrize("kind", ["parallel", "series"])
    def test_compression_of_one_task(self, kind: str, tmp_path: Path) -> None:
        adapted = wrap(make_base("conv"), "residual_adapter", image_size=SIZE, kind=kind).eval()
        images = make_images()
        output = adapted(image=images)
        adapted.method().compress(1.0)
        assert torch.allclose(adapted(image=images), output, atol=1e-5)
        with pytest.raises(ValueError, match="compressed already"):
            adapted.method().compress(0.5)
        half = wrap(make_base("conv"), "residual_adapter", image_size=SIZE, kind=kind)
        half.method().compress(0.5)
        assert [tuple(a.b.shape) for a in half.method().adapters()][1] == (8, 4)
        before = [p.clone() for p in half.trainable()]
        step(half)
        assert not any(torch.equal(p, q) for p, q in zip(half.trainable(), before, strict=True))
        assert_merges(half)
        assert torch.equal(reloaded(half, tmp_path)(image=images), half(image=images))

    def test_joint_compression_shares_and_freezes_the_output_factor(self, tmp_path: Path) -> None:
        adapted = wrap(make_base("conv"), "residual_adapter", "a", SIZE)
        adapted.add("other", "bn").add("b", "residual_adapter").add("c", "residual_adapter")
        tasks = ("a", "b", "c")
        compress_jointly([adapted.method(t) for t in tasks], 0.5)
        owner, user = adapted.method("a").adapters()[1], adapted.method("b").adapters()[1]
        frozen = owner.b.clone()
        assert user.matrix().shape == (8, 8)
        step(adapted, tasks)
        assert torch.equal(owner.b, frozen)
        assert set(dict(user.named_parameters())) == {"g"}
        assert "deltas.conv2.b" in adapted.method("a").pack()
        assert "deltas.conv2.b" not in adapted.method("b").pack()
        adapted.add("d", "residual_adapter", rank=0.5, shared=True).eval()
        again = reloaded(adapted, tmp_path)
        for task in (*tasks, "d"):
            output = adapted(image=make_images(), task=task)
            assert torch.equal(again(image=make_images(), task=task), output)
            assert torch.allclose(adapted.merge(task)(make_images()), output, atol=1e-5)

    def test_tasks_that_could_not_be_loaded_again_are_not_compressed_together(self) -> None:
        adapted = Adapted(make_base("conv"), SIZE)
        for task in "abcd":
            adapted.add(task, "residual_adapter")
        a, b, c, d = (adapted.method(task) for task in "abcd")
        with pytest.raises(ValueError, match="order in which they were added"):
            compress_jointly([b, a], 0.5)
        compress_jointly([b, c], 0.5)
        with pytest.raises(ValueError, match="share output factors already"):
            compress_jointly([a, d], 0.5)

    def test_joint_compression_of_nine_decathlon_tasks_takes_half(self) -> None:
        """1 + 0.54 of the base, Residual Adapters (CVPR 2018) Table 2 says 1.5."""
        adapters = wrap(random_base("resnet26"), "residual_adapter", norm="frozen").method().adapters()
        full = 9 * sum(adapter.a.numel() for adapter in adapters)
        kept = sum(9 * a.rank(0.5) * a.a.shape[1] + a.rank(0.5) * a.a.shape[0] for a in adapters)
        assert full / 5_806_944 == pytest.approx(1.0)
        assert kept / full == pytest.approx(0.54, abs=0.005)

    def test_refusals(self) -> None:
        with pytest.raises(Incompatible, match="3x3"):
            wrap(make_base("transformer"), "residual_adapter", image_size=SIZE)
        with pytest.raises(Incompatible, match="early"):
            wrap(make_base("conv"), "residual_adapter", image_size=SIZE, placement="early")
        with pytest.raises(ValueError, match="shared must be false unless rank is positive"):
            wrap(make_base("conv"), "residual_adapter", image_size=SIZE, shared=True)


class TestPatch:
    def test_counts_on_mobilenet_v2(self) -> None:
        base = Base(build_encoder("torchvision/mobilenet_v2"))

        def count(**settings: object) -> int:
            return sum(p.numel() for p in wrap(base, "patch", **settings).trainable())

        assert count() == 34_112
        assert count(depthwise=True, norm="frozen") == 64_224
        assert count(depthwise=True) == 34_112 + 64_224
        assert count(norm="statistics") == 0
        assert count(last_layer="trained", norm="frozen") == 320 * 1280

    def test_refusals_name_what_is_missing(self) -> None:
        vgg = Base(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
        with pytest.raises(Incompatible, match="depthwise convolutions"):
            wrap(vgg, "patch", norm="frozen", depthwise=True)
        with pytest.raises(Incompatible, match="normalisation layers"):
            wrap(vgg, "patch")

    def test_re_estimated_statistics_train_nothing(self) -> None:
        base = make_base("conv")
        adapted = wrap(base, "patch", image_size=SIZE, norm="statistics").train()
        adapted(image=make_images())
        adapted.eval()
        assert adapted.trainable() == []
        assert not torch.allclose(adapted(image=make_images()), base(make_images()))
        assert set(adapted.method().pack()) == {f"norms.bn{i}.running_{s}" for i in (1, 2) for s in ("mean", "var")}

    def test_patched_layers_are_own_and_the_rest_is_the_base(self) -> None:
        base = make_base("depthwise")
        adapted = wrap(base, "patch", image_size=SIZE, depthwise=True, last_layer="trained", norm="frozen")
        adapted.train()
        assert torch.equal(adapted(image=make_images()), base(make_images()))
        step(adapted)
        merged, frozen = adapted.merge().encoder.state_dict(), base.encoder.state_dict()
        changed = {n for n in merged if not torch.equal(merged[n], frozen[n])}
        assert changed == {"depthwise.0.weight", "pointwise.0.weight"}

    def test_joint_tasks_train_the_shared_weights_with_private_patches(self, tmp_path: Path) -> None:
        base = make_base("depthwise")
        settings = {"joint": True, "last_layer": "trained"}
        adapted = wrap(base, "patch", "a", SIZE, **settings).add("b", "patch", **settings)
        a, b = adapted.method("a"), adapted.method("b")
        assert a.trunk is b.trunk
        assert set(a.trunk.tensors()) == {"stem.0.weight", "depthwise.0.weight"}
        images = make_images()
        adapted.eval()
        assert torch.allclose(adapted(image=images, task="b"), base(images), atol=1e-6)
        step(adapted, ("a",))
        moved = a.trunk.tensors()["stem.0.weight"].clone()
        assert not torch.equal(moved, base.encoder.stem[0].weight)
        assert torch.equal(b.deltas["pointwise/0"].w, base.encoder.pointwise[0].weight)
        step(adapted, ("a", "b"))
        assert not torch.equal(a.trunk.tensors()["stem.0.weight"], moved)
        again = reloaded(adapted, tmp_path)
        for task in ("a", "b"):
            output = adapted(image=images, task=task)
            assert torch.equal(again(image=images, task=task), output)
            assert torch.allclose(adapted.merge(task)(images), output, atol=1e-5)

    def test_without_the_scale_and_bias_patch_joint_tasks_share_batch_norm(self) -> None:
        settings = {"joint": True, "norm": "frozen", "last_layer": "trained"}
        adapted = wrap(make_base("depthwise"), "patch", "a", SIZE, **settings).add("b", "patch", **settings)
        before = adapted.base.encoder.stem[1].running_mean.clone()
        step(adapted, ("a", "b"))
        shared = adapted.method("b").trunk.tensors()
        assert not torch.equal(shared["stem.1.running_mean"], before)
        assert not torch.equal(shared["stem.1.weight"], adapted.base.encoder.stem[1].weight)
        assert torch.equal(adapted.base.encoder.stem[1].running_mean, before)
