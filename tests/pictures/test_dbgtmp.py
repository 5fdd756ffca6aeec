from pathlib import Path
from matplotlib.text import Text
import importlib.util
spec=importlib.util.spec_from_file_location("tp","/work/main/tests/pictures/test_prepared.py"); tp=importlib.util.module_from_spec(spec); spec.loader.exec_module(tp)
from dataclasses import replace
def test_x(tmp_path, monkeypatch, prepared):
    pages=[]
    monkeypatch.setattr(tp.module,"write_page",lambda f,p: pages.append(f))
    tp.statistics_picture(tmp_path/"b.png", replace(tp.statistics(prepared), rejected={"a"*300:2,"b":1}))
    f=pages[0]; f.canvas.draw(); f.savefig("/tmp/pic/dbg.png")
    for t in f.findobj(Text):
        if t.get_text() in ("100","22","650"):
            print(t.get_text(), t.get_position(), t.axes and (t.axes.get_title(), t.axes.get_xlim(), t.axes.get_ylim()), tp.in_sight(t), Text.get_window_extent(t).extents, t in tp.ticks(t.axes.yaxis))
