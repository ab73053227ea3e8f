"""The pipeline as a whole: which stages would run, what the run cache has, a summary, and the doctor."""
