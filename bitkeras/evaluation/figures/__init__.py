"""The figures of a report, each as SVG and PNG."""
