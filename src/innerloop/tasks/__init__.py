"""Families of tasks, a folder for each kind; here what every kind needs. To add one: a subclass of Tasks (base.py) or ClassTasks
(class_tasks.py), and a YAML in conf/task/.

Not here: how episodes come to the outer loop (training/data.py).
"""
