"""Do experts hold more of a function's top neurons than chance allows? layer_tests, job."""
