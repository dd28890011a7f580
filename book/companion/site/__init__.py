"""The pages as programs and as a site: cells they share, reruns, sweeps, links."""
