"""What a run leaves behind: events and their layout, scalars.csv, histograms, hparams, video."""

import dataclasses
import io
import re
import struct

import numpy as np
import pytest
import torch
from PIL import Image

import rlopt
from rlopt.errors import UserError
from rlopt.loggers import logger as recorder
from rlopt.loggers import tensorboard
from rlopt.training import diagnostics as looks
from tests.support.probes import make_trainer
from tests.support.traces import read, rows

pytestmark = pytest.mark.usefixtures("probe_environments")
SMALL = ["batch_size=80", "total_steps=240", "policy.hidden=[8]", "critic.hidden=[8]", "evaluation.episodes=3"]
OFTEN = ["record.histograms_every=2", "record.spectrum_every=1", "record.waste_every=1"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of TRPO on Pendulum, and its events; the video is of CartPole's."""
    run_dir = tmp_path_factory.mktemp("recorded") / "run"
    run = make_trainer("algo=trpo", "env=pendulum", f"run_dir={run_dir}", *SMALL, *OFTEN)
    seen = []
    learn = run.agent.learn

    def watching(state, batch, *rest):
        state, lesson = learn(state, batch, *rest)
        seen.append((batch.actions.clone(), lesson.quantities["advantage"].clone()))  # rollouts share their memory
        return state, lesson

    run.agent.learn = watching
    summary = run.run()
    return run_dir, read(run_dir), seen, summary


def test_csv_and_events_hold_the_same_numbers(recorded):
    run_dir, events, _, _ = recorded
    table = rows(run_dir)
    assert [int(row["step"]) for row in table] == [80, 160, 240]
    found = {
        name: [(int(row["step"]), struct.unpack("f", struct.pack("f", float(row[name])))[0]) for row in table if row[name]]
        for name in table[0] if name != "step"
    }  # fmt: skip
    others = ("at_a_glance/", "final/")
    assert found == {
        name: [(e.step, e.value) for e in events.Scalars(name)]
        for name in events.Tags()["scalars"] if not name.startswith(others)
    }  # fmt: skip


def test_the_first_group_copies_what_tells_most(recorded):
    _, events, _, _ = recorded
    groups = sorted(
        {name.partition("/")[0] for kind in ("scalars", "histograms", "images") for name in events.Tags()[kind]}
    )
    assert groups[0] == "at_a_glance"
    written = {n.removeprefix("at_a_glance/") for n in events.Tags()["scalars"] if n.startswith("at_a_glance/")}
    assert written == set(tensorboard.GLANCE) - {"1_return"}  # no episode of Pendulum ends within 240 steps of 8
    for copy in written:
        original = events.Scalars(tensorboard.GLANCE[copy])
        assert [e.value for e in events.Scalars(f"at_a_glance/{copy}")] == [e.value for e in original]
    assert all(f"| {name} " in tensorboard.__doc__ for name in tensorboard.GLANCE)


def test_the_layout_shows_exactly_the_documented_scalars(recorded):
    from tensorboard.plugins.custom_scalar import layout_pb2

    _, events, _, _ = recorded
    [event] = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [c.title for c in layout.category] == list(tensorboard.LAYOUT)
    patterns = [tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag]
    written = [name for name in events.Tags()["scalars"]]
    scalars, others = (
        {name.strip() for line in doc.splitlines() if line.startswith("| ") for name in line.split("|")[1].split(",")}
        for doc in (recorder.__doc__, looks.__doc__)
    )
    for pattern in patterns:  # a chart shows the scalars whose names its patterns match from their beginning
        assert pattern.removesuffix("$") in scalars | others
        assert len([name for name in written if re.match(pattern, name)]) <= 1
    assert scalars - {pattern.removesuffix("$") for pattern in patterns} == {
        "name",
        "info/...",
        "at_a_glance/...",
        "final/...",
        "agents/...",
        "self_play/...",
    }
    for category in layout.category[:-1]:  # the last is of parts that this run has not
        shown = [
            name for chart in category.chart for tag in chart.multiline.tag for name in written if re.match(tag, name)
        ]
        assert shown, category.title


def test_histograms_hold_actions_and_advantages_of_their_rollout(recorded):
    _, events, seen, _ = recorded
    for i, name in enumerate(["rollout/action_0", "rollout/advantages"]):
        found = events.Histograms(name)
        assert [e.step for e in found] == [80, 240]
        for event, learned_from in zip(found, (seen[0], seen[2]), strict=True):
            values = learned_from[i].double().flatten()
            told = event.histogram_value
            assert (told.num, sum(told.bucket)) == (80, 80)
            assert (told.min, told.max) == pytest.approx((values.min().item(), values.max().item()))
            assert told.sum == pytest.approx(values.sum().item(), abs=1e-5)
            inner = (torch.as_tensor(told.bucket_limit)[:-1, None] >= values).sum(1)
            assert np.cumsum(told.bucket)[:-1] == pytest.approx(inner.numpy(), abs=1)
    assert events.Histograms("evaluation/returns")[0].histogram_value.num == 3
    assert events.Histograms("sampled_evaluation/returns")[0].step == 240


def test_transitions_that_did_not_happen_are_in_no_histogram():
    run = make_trainer(*SMALL, "env=pendulum")
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    mask = torch.ones_like(batch.mask)
    mask[::2] = 0
    advantages = torch.arange(80.0)
    halved = dataclasses.replace(batch, mask=mask)
    quantities = {"advantage": advantages}
    found = looks.compute_diagnostics(run.config, 1, run.agent, run.state, run.state, halved, quantities).histograms
    assert found["rollout/action_0"].tolist() == batch.actions[1::2].flatten().tolist()
    assert found["rollout/advantages"].tolist() == advantages.view(batch.mask.shape)[1::2].flatten().tolist()


def test_a_long_run_has_at_most_500_histograms():
    run = make_trainer(*SMALL, "total_steps=80_000", "record.histograms_every=1")
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    written = [
        k for k in range(1, 1001) if looks.compute_diagnostics(run.config, k, run.agent, {}, {}, batch, {}).histograms
    ]
    assert written == list(range(1, 1001, 2))


def test_the_spectrum_is_that_of_the_metric(tmp_path):
    """P is small, so that 50 products find all eigenvalues of the Fisher matrix."""
    run = make_trainer("algo=npg", f"run_dir={tmp_path}", "batch_size=80", "total_steps=160", "policy=linear", "dtype=float64",
                       "policy.bias=true", "policy.last_gain=1.0", "critic.hidden=[8]", "evaluation.episodes=0", "record.spectrum_every=1")  # fmt: skip
    learn, kept = run.agent.learn, []
    run.agent.learn = lambda state, batch, *rest: kept.append((state, batch)) or learn(state, batch, *rest)
    run.run()
    state, batch = kept[-1]
    z = batch.outputs.flatten(0, 1)
    p = torch.softmax(z, -1)
    C = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    x = torch.cat([batch.inputs[:-1].flatten(0, 1), torch.ones(80, 1, dtype=z.dtype)], 1)
    M = torch.einsum("bij,bk,bl->ikjl", C, x, x).reshape(2 * x.shape[1], -1) / 80
    expected = torch.linalg.eigvalsh(M)
    expected = expected[expected > 1e-12]
    events = read(tmp_path)
    told = events.Histograms("metric/log10_eigenvalues")[-1].histogram_value
    assert told.num == len(expected)
    assert (told.min, told.max) == pytest.approx(
        (expected.min().log10().item(), expected.max().log10().item()), rel=1e-6
    )
    row = rows(tmp_path)[-1]
    assert float(row["metric/largest"]) == pytest.approx(expected.max().item())
    assert float(row["metric/condition"]) == pytest.approx((expected.max() / expected.min()).item())
    assert float(row["metric/negative"]) == 0


def test_the_hparams_tab_has_configuration_and_final_return(recorded):
    from tensorboard.plugins.hparams import metadata

    _, events, _, summary = recorded
    plugin = events.summary_metadata
    content = {name: metadata.parse_session_start_info_plugin_data(m.plugin_data.content)
               for name, m in plugin.items() if name == metadata.SESSION_START_INFO_TAG}  # fmt: skip
    told = content[metadata.SESSION_START_INFO_TAG].hparams
    first = {name: told[name] for name in sorted(told)[:5]}
    assert list(first) == list(tensorboard.COLUMNS)
    assert [first["1 algo"].string_value, first["2 env"].string_value, first["4 metric"].string_value] == [
        "trpo", "Pendulum-v1", "Fisher"]  # fmt: skip
    assert first["3 seed"].number_value == 0
    assert told["step.radius"].number_value == 0.01
    [event] = events.Scalars("final/evaluation_return")
    assert event.value == pytest.approx(summary["evaluation_return"])


def test_the_hparams_tab_has_what_runs_are_sorted_by(tmp_path):
    """Returns at the end, their mean over training, and the speed, which is the last point of its curve."""
    from tensorboard.plugins.hparams import metadata

    make_trainer("algo=trpo", "env=cartpole", f"run_dir={tmp_path}", *SMALL).run()
    events = read(tmp_path)
    content = events.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    metrics = {info.name.tag for info in metadata.parse_experiment_plugin_data(content).metric_infos}
    wanted = {"return_mean", "evaluation_return", "sampled_evaluation_return", "mean_in_training"}
    assert {f"final/{name}" for name in wanted} | {"time/steps_per_second"} <= metrics <= set(events.Tags()["scalars"])
    x, y = np.array([(e.step, e.value) for e in events.Scalars("episode/return")]).T
    [event] = events.Scalars("final/mean_in_training")
    assert event.value == pytest.approx(np.trapezoid(y, x) / (x[-1] - x[0]), rel=1e-5)


def test_results_are_on_the_disk_before_the_run_is_done(tmp_path, monkeypatch):
    """A run that is killed in between would count as done, and its results would never be written."""
    found, replace = [], recorder.replace_file

    def look(path, text):
        if path.name == "summary.json":
            found.extend(name for name in read(tmp_path / "run").Tags()["scalars"] if name.startswith("final/"))
        replace(path, text)

    monkeypatch.setattr(recorder, "replace_file", look)
    make_trainer("total_steps=64", "batch_size=64", "evaluation.episodes=1", f"run_dir={tmp_path / 'run'}").run()
    assert "final/evaluation_return" in found


def test_a_run_without_its_summary_is_evaluated_again_alike(tmp_path):
    run_dir = tmp_path / "run"
    make_trainer("total_steps=64", "batch_size=64", "evaluation.episodes=1", f"run_dir={run_dir}").run()
    (run_dir / "summary.json").unlink()  # as after a kill just before it was written
    rlopt.resume(run_dir)
    first, again = read(run_dir).Scalars("final/evaluation_return")
    assert (first.step, first.value) == (again.step, again.value)


def test_a_runs_page_says_where_its_files_are(recorded):
    run_dir, events, *_ = recorded
    found = events.Tensors("files/text_summary")[0].tensor_proto.string_val[0].decode()
    assert str(run_dir.resolve()) in found and "config.yaml" in found
    assert f"rlopt report {run_dir.resolve().parent}" in found


def test_what_is_switched_off_is_not_written(tmp_path):
    off = ["record.histograms_every=null", "evaluation.episodes=0"]
    make_trainer(f"run_dir={tmp_path / 'csv'}", *SMALL, *off, "record.tensorboard=false").run()
    make_trainer(f"run_dir={tmp_path / 'events'}", *SMALL, *off, "record.csv=false").run()
    names = {kind: {p.name.partition(".")[0] for p in (tmp_path / kind).iterdir()} for kind in ("csv", "events")}
    both = {"checkpoints", "config", "summary"}
    assert names == {"csv": {*both, "scalars"}, "events": {*both, "events"}}
    assert read(tmp_path / "events").Tags()["histograms"] == []


@pytest.mark.parametrize(
    "override",
    [
        "record.histograms_every=0",
        "record.spectrum_every=-1",
        "record.waste_every=0",
        "record.video_steps=0",
        "record.csv=3",
    ],
)
def test_what_cannot_be_recorded_is_refused(override):
    with pytest.raises(UserError, match=override.partition("=")[0]):
        make_trainer(*SMALL, override)


def test_an_environment_without_rendering_is_refused_early(tmp_path):
    with pytest.raises(UserError, match="env.id=probe/Counter-v0 cannot be drawn: it has no render mode rgb_array"):
        make_trainer(f"run_dir={tmp_path / 'run'}", *SMALL, "env.id=probe/Counter-v0", "record.video_steps=5")
    assert not (tmp_path / "run").exists()


def test_the_video_in_tensorboard_moves(tmp_path):
    pytest.importorskip("pygame")
    make_trainer(f"run_dir={tmp_path}", *SMALL, "record.video_steps=6", "evaluation.episodes=0").run()
    [event] = read(tmp_path).Images("policy/video")
    film = Image.open(io.BytesIO(event.encoded_image_string))
    assert (film.format, film.n_frames, film.size) == ("GIF", 4, (event.width, event.height))  # transitions 0, 2, 4, 6
