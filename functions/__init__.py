"""The Knative functions, each a process that answers on $PORT: predictor, promoter, drift watch, dead letters."""
