#!/bin/sh
# Packs the handler, and serves it in the foreground. PORT, MODEL, CORES and WORK, a
# folder to write to, are set.
set -e
mkdir -p "$WORK/store"
torch-model-archiver --model-name alexnet --version 1 --handler handler.py \
	--extra-files "$MODEL/model.json" --export-path "$WORK/store" --force
cat >"$WORK/config.properties" <<EOF
inference_address=http://127.0.0.1:$PORT
management_address=http://127.0.0.1:$((PORT + 1))
metrics_address=http://127.0.0.1:$((PORT + 2))
grpc_inference_port=$((PORT + 3))
grpc_management_port=$((PORT + 4))
disable_token_authorization=true
enable_envvars_config=false
load_models=alexnet.mar
models={"alexnet": {"1.0": {"marName": "alexnet.mar", "minWorkers": $CORES, "maxWorkers": $CORES, "batchSize": 16, "maxBatchDelay": 10, "responseTimeout": 120}}}
EOF
cd "$WORK" # it writes logs into the folder that it is started in
exec torchserve --start --foreground --model-store "$WORK/store" --ts-config "$WORK/config.properties"
