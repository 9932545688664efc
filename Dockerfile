# avmix with CUDA: the PyPI wheels of torch bring their CUDA libraries; the host needs a driver for CUDA 13
# and the NVIDIA container toolkit. Without a GPU the same image runs on the CPU.
#
#   docker build -t avmix .
#   docker run --rm --gpus all --ipc host -v "$PWD/data:/data" -v "$PWD/runs:/runs" avmix \
#       train --data.root /data/my_clips --data.manifest /data/mine --run.out /runs/mine
#
# --ipc host: loader processes pass clips through shared memory, of which a container has 64 MB.
FROM python:3.11-slim-bookworm

# torchcodec uses the FFmpeg of the system; PyAV and decord bring their own.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY avmix ./avmix
RUN pip install --no-cache-dir -c constraints.txt setuptools wheel \
    && pip install --no-cache-dir --no-build-isolation -c constraints.txt \
       ".[torchcodec,models,weights,fsspec,probe]" \
    && rm -rf /src/build /src/avmix

# Files of strangers are decoded here: not as root.
RUN useradd --create-home avmix
USER avmix
WORKDIR /data
ENTRYPOINT ["avmix"]
CMD ["--help"]
