#!/usr/bin/env bash
# Train the thirteen encoders on a machine with a GPU: FCN5 at 64 and at 128 pixels, Taskonomy's ResNet-50 at 256.
#
#     bash docs/train_encoders.sh OUT fcn5_64 fcn5_128 resnet50 [key=value ...]
#
# Each run writes OUT/<which>/<task>.safetensors with decoders and scores on val apartments, and goes on where it was
# stopped. Words with "=" are passed on, as render.workers=8 or steps=2000.
set -euo pipefail
out=$1
shift
words=() which=()
for word in "$@"; do
    if [[ $word == *=* ]]; then words+=("$word"); else which+=("$word"); fi
done
tasks='[curvature,normal,depth_zbuffer,reshading,keypoints3d,edge_occlusion,segment_semantic,depth_euclidean,edge_texture,keypoints2d,autoencoding,denoising,class_object]'
cores=$(nproc)

train() { # name, pixels, further words
    local name=$1 size=$2 val="$out/val-$2"
    shift 2
    python -m envs.render scenes=val:50 size="$size" views=agent views_per_scene=24 views_per_point=1 out="$val/agent"
    python -m envs.render scenes=val:50 size="$size" views=taskonomy views_per_scene=24 out="$val/taskonomy"
    python -m adapt.pretrain task="$tasks" data=render "val=[$val/agent,$val/taskonomy]" out="$out/$name" \
        size="$size" render.workers="$((cores > 2 ? cores - 1 : 1))" "$@" ${words[@]+"${words[@]}"}
}

for name in "${which[@]}"; do
    case $name in
    fcn5_64) train fcn5_64 64 steps=40000 render.tied=15000 render.decay=15000 ;;
    fcn5_128) train fcn5_128 128 label_size=16 steps=40000 render.tied=15000 render.decay=15000 ;;
    resnet50) train resnet50 256 encoder=taskonomy label_size=32 render.tied=0 batch=32 lr=0.0005 steps=60000 render.decay=20000 ;;
    *) echo "unknown: $name; choose from fcn5_64, fcn5_128, resnet50" >&2 && exit 2 ;;
    esac
done
