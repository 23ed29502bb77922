*.so
/runs/
