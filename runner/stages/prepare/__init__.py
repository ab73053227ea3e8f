"""The stage prepare: pictures and labels checked and converted, and a report on what was found and left out."""
