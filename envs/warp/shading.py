"""The kernel that traces a ray per pixel and shades its hit; same images as `envs.rendering.layout` makes of
Embree's hits.
"""

import warp as wp

from envs.warp.launching import KERNEL_OPTIONS

wp.set_module_options(dict(KERNEL_OPTIONS))

# Layout of a face row: `envs.rendering.layout`.
UV = wp.constant(0)
NORMAL = wp.constant(6)
COLOR = wp.constant(9)
TEXTURE = wp.constant(12)
CLASS = wp.constant(13)
INSTANCE = wp.constant(14)
FLAGS = wp.constant(15)
ONE_SIDED = wp.constant(1)
CUTOFF = wp.constant(8)
START = wp.constant(0)
ACROSS = wp.constant(1)
DOWN = wp.constant(2)
SAMPLER = wp.constant(3)
LEVELS = wp.constant(6)  # of a row of gradients
MINIFIED = wp.constant(7)
MIRROR = wp.constant(2)
POINT = wp.constant(16)
COUNT = wp.constant(255)
ONE_LEVEL = wp.constant(256)
SHARP = wp.constant(512)
# `envs.rendering.renderer`: how a ray goes on behind an unseen hit, and how often.
SKIP = wp.constant(1.0e-5)
SKIP_SHARE = wp.constant(1.0e-6)
MOST_UNSEEN = wp.constant(64)
BYTE = wp.constant(1.0 / 255.0)
# Pixels of a warp of 32 threads: neighbouring rays walk the same nodes of the tree.
TILE_WIDTH = wp.constant(8)
TILE_HEIGHT = wp.constant(4)
FARTHEST = wp.constant(1.0e6)


@wp.struct
class DeviceScenes:
    """All scenes: a tree each, rows of faces and gradients one after the other, textures one after the other."""

    meshes: wp.array(dtype=wp.uint64)
    first_face: wp.array(dtype=wp.int32)
    face_floats: wp.array2d(dtype=wp.float32)
    face_ints: wp.array2d(dtype=wp.int32)
    texels: wp.array(dtype=wp.uint32)
    textures: wp.array2d(dtype=wp.int32)
    gradient_floats: wp.array2d(dtype=wp.float32)
    gradient_ints: wp.array2d(dtype=wp.int32)


@wp.struct
class DeviceCameras:
    """The cameras: one row of (x, y, z, sin and cos of the heading, sin and cos of the pitch) per agent."""

    scene: wp.array(dtype=wp.int64)
    camera: wp.array2d(dtype=wp.float32)
    rows: wp.int32
    columns: wp.int32
    half_width: wp.float32
    near: wp.float32
    far: wp.float32
    mipmaps: wp.int32


@wp.struct
class DeviceImages:
    """Outputs, one row per pixel; those of no rows are skipped."""

    rgb: wp.array2d(dtype=wp.uint8)
    depth: wp.array(dtype=wp.float32)
    normal: wp.array2d(dtype=wp.float32)
    semantic: wp.array(dtype=wp.int32)
    instance: wp.array(dtype=wp.int32)
    face: wp.array(dtype=wp.int32)


@wp.func
def channel(packed: wp.uint32, shift: wp.uint32) -> float:
    """One byte of r | g << 8 | b << 16."""
    return float((packed >> shift) & wp.uint32(255))


@wp.func
def color_of(packed: wp.uint32) -> wp.vec3:
    """The three bytes of r | g << 8 | b << 16 as floats."""
    return wp.vec3(
        channel(packed, wp.uint32(0)),
        channel(packed, wp.uint32(8)),
        channel(packed, wp.uint32(16)),
    )


@wp.struct
class Hit:
    """The first face that a ray meets and sees, a row of `DeviceScenes.face_floats`; -1 for none."""

    face: wp.int32
    depth: wp.float32
    first: wp.float32
    second: wp.float32


@wp.func
def texel_position(coordinate: float, size: int, wrap: int) -> float:
    """Position of a coordinate between the centres of texels."""
    if wrap == 0:
        return (coordinate - wp.floor(coordinate)) * float(size) - 0.5
    at = coordinate
    if wrap == MIRROR:
        at = wp.abs(coordinate - 2.0 * wp.floor(0.5 * coordinate + 0.5))
    return wp.clamp(at * float(size) - 0.5, 0.0, float(size) - 1.0)


@wp.func
def neighbour(texel: int, size: int, wrap: int) -> int:
    """The index of a texel that may lie one beyond an edge."""
    if wrap != 0:
        return wp.min(texel, size - 1)
    if texel < 0:
        return texel + size
    if texel >= size:
        return texel - size
    return texel


@wp.func
def texel_of(packed: wp.uint32) -> wp.vec4:
    """The four bytes of r | g << 8 | b << 16 | alpha << 24 as floats."""
    color = color_of(packed)
    return wp.vec4(color[0], color[1], color[2], channel(packed, wp.uint32(24)))


@wp.func
def sample_texture(scenes: DeviceScenes, row: int, u: float, v: float) -> wp.vec4:
    """Bilinear or nearest texel with alpha in 0..255."""
    offset = scenes.textures[row, START]
    width = scenes.textures[row, ACROSS]
    height = scenes.textures[row, DOWN]
    sampler = scenes.textures[row, SAMPLER]
    along_u = sampler & 3
    along_v = (sampler >> 2) & 3
    x = texel_position(u, width, along_u)
    y = texel_position(v, height, along_v)
    if (sampler & POINT) != 0:
        x = wp.floor(x + 0.5)
        y = wp.floor(y + 0.5)
    wx = x - wp.floor(x)
    wy = y - wp.floor(y)
    left = neighbour(int(wp.floor(x)), width, along_u)
    right = neighbour(left + 1, width, along_u)
    top = neighbour(int(wp.floor(y)), height, along_v)
    bottom = offset + neighbour(top + 1, height, along_v) * width
    top = offset + top * width
    upper = (1.0 - wx) * texel_of(scenes.texels[top + left]) + wx * texel_of(scenes.texels[top + right])
    lower = (1.0 - wx) * texel_of(scenes.texels[bottom + left]) + wx * texel_of(scenes.texels[bottom + right])
    return (1.0 - wy) * upper + wy * lower


@wp.func
def coordinates(scenes: DeviceScenes, face: int, first: float, second: float) -> wp.vec2:
    """Texture coordinates of a point of a face."""
    third = 1.0 - first - second
    u = (
        first * scenes.face_floats[face, UV]
        + second * scenes.face_floats[face, UV + 2]
        + third * scenes.face_floats[face, UV + 4]
    )
    v = (
        first * scenes.face_floats[face, UV + 1]
        + second * scenes.face_floats[face, UV + 3]
        + third * scenes.face_floats[face, UV + 5]
    )
    return wp.vec2(u, v)


@wp.func
def texture_at(scenes: DeviceScenes, face: int, first: float, second: float) -> wp.vec4:
    """Texel with alpha in 0..255 at a point of a face that has a texture."""
    at = coordinates(scenes, face, first, second)
    return sample_texture(scenes, scenes.face_ints[face, TEXTURE], at[0], at[1])


@wp.func
def normal_of(scenes: DeviceScenes, face: int) -> wp.vec3:
    """Unit normal on the side from which the corners run counter-clockwise."""
    return wp.vec3(
        scenes.face_floats[face, NORMAL], scenes.face_floats[face, NORMAL + 1], scenes.face_floats[face, NORMAL + 2]
    )


@wp.func
def unseen(scenes: DeviceScenes, face: int, first: float, second: float, direction: wp.vec3) -> bool:
    """Whether a ray passes a hit: the back of a one-sided face, or a texel below its face's alpha cutoff."""
    flags = scenes.face_ints[face, FLAGS]
    if (flags & ONE_SIDED) != 0:
        if wp.dot(normal_of(scenes, face), direction) > 0.0:
            return True
    cutoff = flags >> CUTOFF
    if cutoff > 0 and scenes.face_ints[face, TEXTURE] > 0:
        alpha = texture_at(scenes, face, first, second)
        return alpha[3] < float(cutoff)
    return False


@wp.func
def right_step(view: DeviceCameras, n: int) -> wp.vec3:
    """Difference of a ray to its right neighbour's."""
    pixel = 2.0 * view.half_width / float(view.columns)
    return wp.vec3(pixel * view.camera[n, 4], 0.0, -pixel * view.camera[n, 3])


@wp.func
def down_step(view: DeviceCameras, n: int) -> wp.vec3:
    """Difference of a ray to the one below."""
    pixel = 2.0 * view.half_width / float(view.columns)
    sin_p = view.camera[n, 5]
    return -pixel * wp.vec3(view.camera[n, 3] * sin_p, view.camera[n, 6], view.camera[n, 4] * sin_p)


@wp.func
def squared_speed(scenes: DeviceScenes, face: int, ray: wp.vec3, step: wp.vec3, depth: float) -> float:
    """Square of the texels that go by from a pixel to a neighbour; `envs.rendering.texturing` explains it."""
    normal = normal_of(scenes, face)
    facing = wp.dot(normal, ray)
    if wp.abs(facing) < 1.0e-12:
        facing = 1.0e-12
    moved = depth * (step - ray * (wp.dot(normal, step) / facing))
    u = wp.vec3(scenes.gradient_floats[face, 0], scenes.gradient_floats[face, 1], scenes.gradient_floats[face, 2])
    v = wp.vec3(scenes.gradient_floats[face, 3], scenes.gradient_floats[face, 4], scenes.gradient_floats[face, 5])
    along_u = wp.dot(u, moved)
    along_v = wp.dot(v, moved)
    return along_u * along_u + along_v * along_v


@wp.func
def filtered_texture(scenes: DeviceScenes, hit: Hit, ray: wp.vec3, right: wp.vec3, down: wp.vec3) -> wp.vec4:
    """Texel with alpha in 0..255 of the level of detail of a pixel, or of the two that it lies between."""
    across = squared_speed(scenes, hit.face, ray, right, hit.depth)
    below = squared_speed(scenes, hit.face, ray, down, hit.depth)
    detail = 0.5 * wp.log2(wp.clamp(wp.max(across, below), 1.0, 1.0e30))
    at = coordinates(scenes, hit.face, hit.first, hit.second)
    choice = scenes.gradient_ints[hit.face, LEVELS]
    if detail <= wp.where((choice & SHARP) != 0, 0.5, 0.0):
        return sample_texture(scenes, scenes.face_ints[hit.face, TEXTURE], at[0], at[1])
    one_level = (choice & ONE_LEVEL) != 0
    last = (choice & COUNT) - 1
    level = wp.min(int(wp.floor(detail + wp.where(one_level, 0.5, 0.0))), last)
    row = scenes.gradient_ints[hit.face, MINIFIED] + level
    texel = sample_texture(scenes, row, at[0], at[1])
    share = detail - wp.floor(detail)
    if share > 0.0 and level < last and not one_level:
        texel = (1.0 - share) * texel + share * sample_texture(scenes, row + 1, at[0], at[1])
    return texel


@wp.func
def shade(scenes: DeviceScenes, view: DeviceCameras, n: int, hit: Hit, ray: wp.vec3) -> wp.vec3:
    """Interpolated corner colour times the filtered texel, in 0..255."""
    a = color_of(wp.uint32(scenes.face_ints[hit.face, COLOR]))
    b = color_of(wp.uint32(scenes.face_ints[hit.face, COLOR + 1]))
    c = color_of(wp.uint32(scenes.face_ints[hit.face, COLOR + 2]))
    color = hit.first * a + hit.second * b + (1.0 - hit.first - hit.second) * c
    if scenes.face_ints[hit.face, TEXTURE] > 0:
        texel = wp.vec4()
        if view.mipmaps != 0:
            texel = filtered_texture(scenes, hit, ray, right_step(view, n), down_step(view, n))
        else:
            texel = texture_at(scenes, hit.face, hit.first, hit.second)
        color = wp.cw_mul(color, wp.vec3(texel[0], texel[1], texel[2])) * BYTE
    return color


@wp.func
def pixel_of(k: int, view: DeviceCameras) -> wp.vec2i:
    """Row and column of the k-th pixel in the order of tiles; row by row where tiles do not fit."""
    if view.columns % TILE_WIDTH != 0 or view.rows % TILE_HEIGHT != 0:
        return wp.vec2i(k / view.columns, k % view.columns)
    area = TILE_WIDTH * TILE_HEIGHT
    tile = k / area
    inside = k % area
    across = view.columns / TILE_WIDTH
    return wp.vec2i(
        (tile / across) * TILE_HEIGHT + inside / TILE_WIDTH, (tile % across) * TILE_WIDTH + inside % TILE_WIDTH
    )


@wp.func
def direction_of(view: DeviceCameras, n: int, at: wp.vec2i) -> wp.vec3:
    """The ray of a pixel, of length 1 along the optical axis, so that a hit's parameter is a planar depth."""
    rows = float(view.rows)
    columns = float(view.columns)
    up = view.half_width * rows / columns * (1.0 - float(2 * at[0] + 1) / rows)
    right = view.half_width * (float(2 * at[1] + 1) / columns - 1.0)
    sin_h = view.camera[n, 3]
    cos_h = view.camera[n, 4]
    sin_p = view.camera[n, 5]
    cos_p = view.camera[n, 6]
    level = cos_p - up * sin_p
    return wp.vec3(-sin_h * level + cos_h * right, sin_p + up * cos_p, -cos_h * level - sin_h * right)


@wp.func
def cast(scenes: DeviceScenes, view: DeviceCameras, n: int, direction: wp.vec3) -> Hit:
    """The first face that a ray of agent n meets from the near plane on, seen or not."""
    scene = int(view.scene[n])
    origin = wp.vec3(view.camera[n, 0], view.camera[n, 1], view.camera[n, 2]) + view.near * direction
    found = wp.mesh_query_ray(scenes.meshes[scene], origin, direction, FARTHEST)
    hit = Hit()
    hit.face = -1
    if found.result:
        hit.face = scenes.first_face[scene] + found.face
        hit.depth = found.t
        hit.first = found.u
        hit.second = found.v
    return hit


@wp.func
def look(scenes: DeviceScenes, view: DeviceCameras, n: int, direction: wp.vec3) -> Hit:
    """The first face that a ray of agent n sees; its depth is from the camera."""
    hit = cast(scenes, view, n, direction)
    if hit.face >= 0:
        if scenes.face_ints[hit.face, FLAGS] != 0:
            scene = int(view.scene[n])
            start = wp.vec3(view.camera[n, 0], view.camera[n, 1], view.camera[n, 2]) + view.near * direction
            passed = int(0)
            while hit.face >= 0 and passed < MOST_UNSEEN:
                if not unseen(scenes, hit.face, hit.first, hit.second, direction):
                    break
                passed = passed + 1
                beyond = hit.depth * (1.0 + SKIP_SHARE) + SKIP
                found = wp.mesh_query_ray(scenes.meshes[scene], start + beyond * direction, direction, FARTHEST)
                hit.face = -1
                if found.result and passed < MOST_UNSEEN:
                    hit.face = scenes.first_face[scene] + found.face
                    hit.depth = beyond + found.t
                    hit.first = found.u
                    hit.second = found.v
    hit.depth = hit.depth + view.near
    if hit.depth > view.far:
        hit.face = -1
    return hit


@wp.func
def write_color(images: DeviceImages, ray: int, color: wp.vec3) -> int:
    """Round a colour to bytes."""
    for k in range(3):
        images.rgb[ray, k] = wp.uint8(int(color[k] + 0.5))
    return 0


@wp.func
def write_normal(images: DeviceImages, ray: int, normal: wp.vec3) -> int:
    """Store a normal."""
    for k in range(3):
        images.normal[ray, k] = normal[k]
    return 0


@wp.func
def write_labels(scenes: DeviceScenes, images: DeviceImages, ray: int, face: int, first_face: int) -> int:
    """Store what was hit."""
    if images.semantic.shape[0] > 0:
        images.semantic[ray] = wp.where(face >= 0, scenes.face_ints[wp.max(face, 0), CLASS], -1)
    if images.instance.shape[0] > 0:
        images.instance[ray] = wp.where(face >= 0, scenes.face_ints[wp.max(face, 0), INSTANCE], -1)
    if images.face.shape[0] > 0:
        images.face[ray] = wp.where(face >= 0, face - first_face, -1)
    return 0


@wp.kernel
def trace_and_shade(scenes: DeviceScenes, view: DeviceCameras, images: DeviceImages):
    """One thread per pixel of all agents."""
    tid = wp.tid()
    pixels = view.rows * view.columns
    n = tid / pixels
    at = pixel_of(tid % pixels, view)
    ray = n * pixels + at[0] * view.columns + at[1]
    direction = direction_of(view, n, at)
    hit = look(scenes, view, n, direction)
    if images.rgb.shape[0] > 0:
        color = wp.vec3(0.0, 0.0, 0.0)
        if hit.face >= 0:
            color = shade(scenes, view, n, hit, direction)
        write_color(images, ray, color)
    if images.depth.shape[0] > 0:
        images.depth[ray] = wp.where(hit.face >= 0, hit.depth, 0.0)
    if images.normal.shape[0] > 0:
        normal = wp.vec3(0.0, 0.0, 0.0)
        if hit.face >= 0:
            normal = normal_of(scenes, hit.face)
            if wp.dot(normal, direction) > 0.0:
                normal = -normal
        write_normal(images, ray, normal)
    write_labels(scenes, images, ray, hit.face, scenes.first_face[int(view.scene[n])])


@wp.kernel
def trace(scenes: DeviceScenes, view: DeviceCameras, depth: wp.array(dtype=wp.float32)):
    """The rays of `trace_and_shade` without any shading: what it is measured against."""
    tid = wp.tid()
    pixels = view.rows * view.columns
    n = tid / pixels
    at = pixel_of(tid % pixels, view)
    hit = cast(scenes, view, n, direction_of(view, n, at))
    depth[n * pixels + at[0] * view.columns + at[1]] = hit.depth
