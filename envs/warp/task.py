"""Warp kernels of the PointNav task, one thread per agent (see `envs.pointnav.env`)."""

import warp as wp

from envs.warp.floor import FAR, HALF, ONE, ZERO, DeviceFloor, SceneGrid
from envs.warp.ground import PathTrees, geodesic, move, norm
from envs.warp.launching import KERNEL_OPTIONS

wp.set_module_options(dict(KERNEL_OPTIONS))

real = wp.float64

STOP = wp.constant(0)
FORWARD = wp.constant(1)
LEFT = wp.constant(2)
RIGHT = wp.constant(3)
EMPTY = wp.constant(wp.uint8(128))
MARKED = wp.constant(wp.uint8(255))
# Columns of a report row.
REPORT = (
    "reward",
    "done",
    "truncated",
    "success",
    "start_distance",
    "path_length",
    "distance",
    "collisions",
    "episode_return",
    "steps",
)


@wp.struct
class Rules:
    """Numbers of `envs.pointnav.env.PointNavTask`; `first_action` is Habitat's number of the action with index 0."""

    first_action: wp.int32
    stops_itself: wp.bool
    sliding: wp.bool
    max_steps: wp.int32
    forward: wp.float64
    turn: wp.float64
    success_distance: wp.float64
    success_reward: wp.float64
    slack_reward: wp.float64


@wp.struct
class Agents:
    """State of all agents, row n belongs to agent n; `slot` is the row of its goal in `PathTrees`."""

    place: wp.array(dtype=wp.int64)
    slot: wp.array(dtype=wp.int32)
    active: wp.array(dtype=wp.bool)
    position: wp.array2d(dtype=wp.float64)
    heading: wp.array(dtype=wp.float64)
    goal: wp.array2d(dtype=wp.float64)
    steps: wp.array(dtype=wp.int32)
    collisions: wp.array(dtype=wp.int32)
    start_distance: wp.array(dtype=wp.float64)
    distance: wp.array(dtype=wp.float64)
    measured: wp.array2d(dtype=wp.float64)
    path_length: wp.array(dtype=wp.float64)
    episode_return: wp.array(dtype=wp.float64)
    trail: wp.array3d(dtype=wp.float32)


@wp.func
def wrap_angle(angle: wp.float64) -> wp.float64:
    """An angle in [-pi, pi), rounded as numpy's remainder rounds."""
    pi = real(3.141592653589793)
    rest = wp.mod(angle + pi, real(2.0) * pi)
    if rest < ZERO:
        rest = rest + real(2.0) * pi
    return rest - pi


@wp.func
def walk(f: DeviceFloor, p: SceneGrid, a: Agents, rules: Rules, n: int) -> int:
    """A step forward of agent n: position, path length, collisions."""
    x = a.position[n, 0]
    y = a.position[n, 1]
    z = a.position[n, 2]
    dx = -wp.sin(a.heading[n]) * rules.forward
    dz = -wp.cos(a.heading[n]) * rules.forward
    now = move(f, p, x, y, z, dx, dz, rules.sliding)
    a.path_length[n] = a.path_length[n] + norm(now.x - x, now.y - y, now.z - z)
    if now.held:
        a.collisions[n] = a.collisions[n] + 1
    a.position[n, 0] = now.x
    a.position[n, 1] = now.y
    a.position[n, 2] = now.z
    return 0


@wp.func
def measure(f: DeviceFloor, p: SceneGrid, t: PathTrees, a: Agents, n: int) -> int:
    """Take agent n's distance anew if it moved enough since it was taken last (`envs.pointnav.measures.moved`)."""
    moved = bool(False)
    for i in range(3):
        gap = wp.abs(a.measured[n, i] - a.position[n, i])
        if gap > real(1.0e-4) + real(1.0e-5) * wp.abs(a.position[n, i]):
            moved = True
    if moved:
        left = geodesic(f, p, t, a.slot[n], a.position[n, 0], a.position[n, 1], a.position[n, 2])
        a.distance[n] = wp.where(left < FAR, left, real(wp.inf))
        for i in range(3):
            a.measured[n, i] = a.position[n, i]
    return 0


@wp.kernel
def step_agents(
    f: DeviceFloor,
    patches: wp.array(dtype=SceneGrid),
    t: PathTrees,
    a: Agents,
    rules: Rules,
    actions: wp.array(dtype=wp.int64),
    report: wp.array2d(dtype=wp.float64),
):
    """Let every active agent act once; `report` gets a row of `REPORT` per agent, for an idle one zeros."""
    n = wp.tid()
    action = int(actions[n]) + rules.first_action
    before = a.distance[n]
    if rules.stops_itself and before < rules.success_distance:
        action = STOP
    turn = ZERO
    if a.active[n]:
        if action == LEFT:
            turn = rules.turn
        if action == RIGHT:
            turn = -rules.turn
    a.heading[n] = wrap_angle(a.heading[n] + turn)
    for k in range(10):
        report[n, k] = ZERO
    if a.active[n]:
        if action == FORWARD:
            walk(f, patches[int(a.place[n])], a, rules, n)
        measure(f, patches[int(a.place[n])], t, a, n)
        a.trail[n, a.steps[n] + 1, 0] = float(a.position[n, 0])
        a.trail[n, a.steps[n] + 1, 1] = float(a.position[n, 2])
        stopped = action == STOP
        success = stopped and a.distance[n] < rules.success_distance
        reward = rules.slack_reward + (before - a.distance[n]) + rules.success_reward * wp.where(success, ONE, ZERO)
        a.steps[n] = a.steps[n] + 1
        a.episode_return[n] = a.episode_return[n] + reward
        report[n, 0] = reward
        report[n, 1] = wp.where(stopped or a.steps[n] >= rules.max_steps, ONE, ZERO)
        report[n, 2] = wp.where(stopped, ZERO, ONE)
        report[n, 3] = wp.where(success, ONE, ZERO)
        report[n, 4] = a.start_distance[n]
        report[n, 5] = a.path_length[n]
        report[n, 6] = a.distance[n]
        report[n, 7] = real(a.collisions[n])
        report[n, 8] = a.episode_return[n]
        report[n, 9] = real(a.steps[n])


@wp.kernel
def reset_agents(
    f: DeviceFloor,
    patches: wp.array(dtype=SceneGrid),
    t: PathTrees,
    a: Agents,
    which: wp.array(dtype=wp.int64),
    place: wp.array(dtype=wp.int64),
    slot: wp.array(dtype=wp.int32),
    start: wp.array2d(dtype=wp.float64),
):
    """Start episodes: row k of `start` (x, y, z, heading, goal x, y, z) for agent which[k]; place -1 idles it."""
    k = wp.tid()
    n = int(which[k])
    a.active[n] = place[k] >= wp.int64(0)
    if place[k] >= wp.int64(0):
        a.place[n] = place[k]
        a.slot[n] = slot[k]
        for i in range(3):
            a.position[n, i] = start[k, i]
            a.measured[n, i] = start[k, i]
            a.goal[n, i] = start[k, 4 + i]
        a.heading[n] = start[k, 3]
        left = geodesic(f, patches[int(place[k])], t, slot[k], start[k, 0], start[k, 1], start[k, 2])
        a.start_distance[n] = left
        a.distance[n] = left
        a.steps[n] = 0
        a.collisions[n] = 0
        a.path_length[n] = ZERO
        a.episode_return[n] = ZERO
        a.trail[n, 0, 0] = float(start[k, 0])
        a.trail[n, 0, 1] = float(start[k, 2])


@wp.kernel
def point_to_goal(a: Agents, rows: wp.array(dtype=wp.int64), goal: wp.array2d(dtype=wp.float32)):
    """Polar goals, metres and radians, positive to the left."""
    k = wp.tid()
    n = int(rows[k])
    dx = a.goal[n, 0] - a.position[n, 0]
    dz = a.goal[n, 2] - a.position[n, 2]
    c = wp.cos(a.heading[n])
    s = wp.sin(a.heading[n])
    right = c * dx - s * dz
    ahead = -s * dx - c * dz
    goal[k, 0] = float(wp.sqrt(dx * dx + dz * dz))
    goal[k, 1] = float(wp.atan2(-right, ahead))


@wp.func
def mark(
    image: wp.array4d(dtype=wp.uint8),
    k: int,
    channel: int,
    dx: wp.float64,
    dz: wp.float64,
    heading: wp.float64,
    scale: wp.float64,
) -> int:
    """Paint the 3x3 block around a cell; threads that meet there write the same value."""
    size = image.shape[2]
    c = wp.cos(heading)
    s = wp.sin(heading)
    right = c * dx - s * dz
    ahead = -s * dx - c * dz
    row = wp.clamp(int(wp.ceil(real(size) * HALF - ahead * scale)) - 1, 0, size - 1)
    column = wp.clamp(int(wp.ceil(real(size) * HALF + right * scale)) - 1, 0, size - 1)
    for i in range(wp.max(row - 1, 0), wp.min(row + 2, size)):
        for j in range(wp.max(column - 1, 0), wp.min(column + 2, size)):
            image[k, channel, i, j] = MARKED
    return 0


@wp.kernel
def draw_maps(a: Agents, rows: wp.array(dtype=wp.int64), scale: wp.float64, image: wp.array4d(dtype=wp.uint8)):
    """Mark what was visited and, by the thread of step 0, the goal, on maps filled with `EMPTY`."""
    k, t = wp.tid()
    n = int(rows[k])
    last = a.steps[n]
    if t <= last:
        x0 = a.trail[n, last, 0]
        z0 = a.trail[n, last, 1]
        mark(image, k, 0, real(a.trail[n, t, 0] - x0), real(a.trail[n, t, 1] - z0), a.heading[n], scale)
        if t == 0:
            mark(image, k, 1, a.goal[n, 0] - real(x0), a.goal[n, 2] - real(z0), a.heading[n], scale)
