"""What may leave a desk: artifacts, their manifests, the policy of an audience, and the gate."""
