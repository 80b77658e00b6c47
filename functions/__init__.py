"""The Knative functions, processes that answer on $PORT: predictor, promoter, drift watch, job watch, dead letters."""
